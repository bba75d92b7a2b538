"""The Celery application, under the name that `celery -A ocr_tasks.app` uses."""

from ocr_tasks.jobs.celery_app import app

__all__ = ["app"]
