"""The page queue, on a real Redis: who has which page, whatever devices do."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from ocr_tasks import errors, settings
from ocr_tasks.redis import connection
from ocr_tasks.swarm import devices, queue, redis_keys
from ocr_tasks.swarm.model import Abilities, Lease, SwarmPage

pytestmark = pytest.mark.usefixtures("service")

ANY = Abilities()


def page(name: str = "a.png", **changed: object) -> SwarmPage:
    made = {
        "media_type": "image/png",
        "width": 100,
        "height": 50,
        "dpi": 300.0,
        "languages": ("eng",),
        "collection": "scans",
        "name": name,
    }
    return SwarmPage(**{**made, **changed})  # type: ignore[arg-type]


def job_page(number: int = 1, run: str = "run") -> SwarmPage:
    return page("", collection="", job_id="job", run=run, number=number, format="hocr")


def lease(device: str = "phone", abilities: Abilities = ANY, seconds: int = 60) -> Lease:
    found = queue.lease(device, abilities, seconds)
    assert found
    return found


def answer(got: Lease) -> None:
    queue.finish(queue.accept(got.id))


def run_out(*pages: SwarmPage) -> None:
    """Has the leases of pages run out."""
    for each in pages:
        connection.client().zadd(f"{redis_keys.SWARM}leases", {each.id: 1}, xx=True)


def state(of: SwarmPage) -> str | None:
    return queue.state(of.id).get("state")


def test_pages_are_handed_out_in_the_order_of_their_coming_each_to_one_device() -> None:
    queue.put([page("a.png"), page("b.png")])

    assert [lease("one").page.name, lease("two").page.name] == ["a.png", "b.png"]
    assert queue.lease("three", ANY, 60) is None


def test_known_pages_are_skipped_whatever_has_become_of_them() -> None:
    assert queue.put([page()]) == [True]
    assert queue.put([page()]) == [False]
    answer(lease())
    assert queue.put([page(), page("b.png")]) == [False, True]


def test_a_page_that_is_answered_is_done() -> None:
    queue.put([page()])
    answer(lease())

    assert state(page()) == "done"
    assert queue.counts() == {"waiting": 0, "leased": 0, "done": 1, "aside": 0, "transcripts": 1}
    assert queue.lease("other", ANY, 60) is None


def test_a_page_whose_lease_runs_out_waits_in_its_old_place() -> None:
    queue.put([page("a.png"), page("b.png")])
    lease("gone")
    run_out(page("a.png"))

    assert lease("other").page.name == "a.png"
    device = devices.latest()[-1]
    assert (device.name, device.expired, device.open) == ("gone", 1, 0)


def test_a_lease_that_is_renewed_does_not_run_out() -> None:
    queue.put([page()])
    got = lease(seconds=60)
    run_out(page())
    queue.renew(got.id, 60)

    assert queue.lease("other", ANY, 60) is None


def test_a_page_that_is_released_waits_and_has_not_failed() -> None:
    queue.put([page()])
    for _ in range(5):
        queue.release(lease().id)

    assert state(page()) == "waiting"
    assert queue.state(page().id)["failures"] == "0"


def test_a_page_that_fails_three_devices_is_set_aside_with_the_reasons() -> None:
    queue.put([page()])
    for device in ("one", "two", "three"):
        queue.fail(lease(device).id, f"too dark for {device}")

    assert state(page()) == "aside"
    assert queue.state(page().id)["reason:2"] == "too dark for two"
    assert queue.lease("four", ANY, 60) is None
    assert queue.counts()["aside"] == 1


def test_a_device_does_not_get_a_page_again_that_it_could_not_read() -> None:
    queue.put([page("a.png"), page("b.png")])
    queue.fail(lease("one").id, "too dark")

    assert lease("one").page.name == "b.png"
    assert lease("two").page.name == "a.png"


def test_devices_that_never_answer_have_a_page_set_aside() -> None:
    queue.put([page()])
    for number in range(3):
        lease(f"silent {number}")
        run_out(page())
    assert queue.lease("other", ANY, 60) is None

    assert state(page()) == "aside"
    assert "silent 1" in queue.state(page().id)["reason:2"]


def test_a_late_transcript_is_taken_where_no_other_came() -> None:
    queue.put([page()])
    late = lease("late")
    run_out(page())
    other = lease("other")
    answer(late)

    assert state(page()) == "done"
    with pytest.raises(errors.LeaseLost):
        queue.accept(other.id)
    assert devices.latest()[0].open == 0


def test_a_late_transcript_is_refused_without_harm_where_another_came() -> None:
    queue.put([page()])
    late = lease("late")
    run_out(page())
    answer(lease("other"))

    with pytest.raises(errors.LeaseLost):
        queue.accept(late.id)
    assert state(page()) == "done"


def test_a_late_transcript_brings_a_page_back_that_was_set_aside() -> None:
    queue.put([page()])
    late = lease("late")
    run_out(page())
    for device in ("one", "two"):
        queue.fail(lease(device).id, "too dark")
    assert state(page()) == "aside"
    answer(late)

    assert state(page()) == "done"
    assert queue.counts()["aside"] == 0


def test_the_same_transcript_twice_is_no_error() -> None:
    queue.put([page()])
    got = lease()
    answer(got)

    assert queue.accept(got.id).page is None


def test_while_a_transcript_is_stored_no_other_is_taken() -> None:
    queue.put([page()])
    slow = lease("slow")
    run_out(page())
    quick = lease("quick")
    storing = queue.accept(slow.id)
    with pytest.raises(errors.LeaseLost):
        queue.accept(quick.id)
    queue.finish(storing)

    assert state(page()) == "done"


def test_a_server_that_dies_while_it_stores_does_not_keep_the_page() -> None:
    queue.put([page()])
    dead = queue.accept(lease("one").id)
    run_out(page())
    connection.client().hset(f"{redis_keys.SWARM}page:{page().id}", "storing_until", 1)
    answer(lease("two"))

    with pytest.raises(errors.LeaseLost):
        queue.finish(dead)


@pytest.mark.parametrize("bad", ["", "x", "../../etc/passwd", "0" * 32, f"{'0' * 32}-{'0' * 31}g"])
def test_what_is_no_lease_is_unknown(bad: str) -> None:
    for use in (queue.accept, queue.find, queue.release):
        with pytest.raises(errors.LeaseUnknown):
            use(bad)


def test_a_lease_that_was_made_up_is_unknown() -> None:
    queue.put([page()])
    lease()
    forged = f"{page().id}-{'0' * 32}"

    for use in (queue.accept, queue.find, queue.release):
        with pytest.raises(errors.LeaseUnknown):
            use(forged)


def test_a_lease_of_a_page_that_is_gone_says_so() -> None:
    queue.put([page()])
    got = lease()
    queue.remove(page().id)

    for use in (queue.accept, queue.find, queue.release):
        with pytest.raises(errors.PageWithdrawn):
            use(got.id)


def test_a_device_has_no_more_pages_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_SWARM_LEASES_MAX", "2")
    settings.get.cache_clear()
    queue.put([page(f"{number}.png") for number in range(5)])
    first = lease()
    lease()
    with pytest.raises(errors.TooManyLeases):
        queue.lease("phone", ANY, 60)
    answer(first)

    lease()


@pytest.mark.parametrize(
    ("abilities", "fits"),
    [
        (ANY, True),
        (Abilities(languages=frozenset({"eng", "deu"})), True),
        (Abilities(languages=frozenset({"eng"})), False),
        (Abilities(images=frozenset({"image/png"})), True),
        (Abilities(images=frozenset({"image/jpeg"})), False),
        (Abilities(formats=frozenset({"text"})), True),
        (Abilities(formats=frozenset({"hocr"})), True),
    ],
)
def test_a_device_gets_what_it_can_read(abilities: Abilities, fits: bool) -> None:
    queue.put([page(languages=("deu", "eng"))])

    assert (queue.lease("phone", abilities, 60) is not None) == fits


def test_a_device_that_cannot_say_where_words_are_gets_no_pages_of_jobs() -> None:
    queue.keep_batch("run")
    queue.put([job_page()])

    assert queue.lease("old phone", Abilities(formats=frozenset({"text"})), 60) is None
    assert queue.lease("phone", Abilities(formats=frozenset({"hocr"})), 60)


def test_pages_of_jobs_go_first() -> None:
    queue.put([page()])
    queue.keep_batch("run")
    queue.put([job_page()])

    assert lease().page.job_id == "job"


def test_of_several_collections_the_page_that_waits_longest_goes_first() -> None:
    queue.put([page("first.tif", media_type="image/tiff")])
    queue.put([page("second.jpg", media_type="image/jpeg")])
    queue.put([page("third.tif", media_type="image/tiff")])

    assert [lease().page.name for _ in range(3)] == ["first.tif", "second.jpg", "third.tif"]


def test_pages_that_no_job_wants_any_more_are_handed_to_nobody() -> None:
    queue.keep_batch("run")
    queue.put([job_page(1), job_page(2), job_page(3)])
    got = lease()
    connection.client().delete(f"{redis_keys.SWARM}batch:run")

    assert queue.lease("phone", ANY, 60) is None
    with pytest.raises(errors.PageWithdrawn):
        queue.accept(got.id)
    run_out(job_page(1))
    assert queue.lease("phone", ANY, 60) is None
    assert list(connection.client().scan_iter(f"{redis_keys.SWARM}page:*")) == []


def test_a_job_hears_what_has_become_of_its_pages() -> None:
    queue.keep_batch("run")
    queue.put([job_page(1), job_page(2)])
    answer(lease("good"))
    for device in ("one", "two", "three"):
        queue.fail(lease(device).id, "too dark")

    assert queue.wait_for_result(job_page(1), 1) == "done good"
    assert queue.wait_for_result(job_page(2), 1) == "aside"
    assert queue.wait_for_result(job_page(1), 0.1) is None


def test_a_page_can_be_withdrawn_unless_its_transcript_is_coming() -> None:
    queue.keep_batch("run")
    queue.put([job_page(1), job_page(2)])
    queue.accept(lease().id)

    assert not queue.remove(job_page(1).id)
    assert queue.remove(job_page(2).id)
    assert queue.remove(job_page(2).id)


def test_a_transcript_that_is_not_stored_after_all_holds_up_nobody() -> None:
    queue.keep_batch("run")
    queue.put([job_page(1)])
    bad = queue.accept(lease("bad").id)
    assert not queue.remove(job_page(1).id)
    queue.abandon(bad)

    assert queue.remove(job_page(1).id)


def test_a_page_that_is_to_be_read_twice_goes_to_another_device() -> None:
    queue.put([page()])
    queue.finish(queue.accept(lease("one").id), again=True)

    assert state(page()) == "waiting"
    assert queue.lease("one", ANY, 60) is None
    answer(lease("two"))
    assert state(page()) == "done"


def test_fifty_devices_at_once_answer_each_page_once() -> None:
    pages = [page(f"{number:05}.png") for number in range(2000)]
    queue.put(pages)
    answered: Counter[str] = Counter()
    lock = threading.Lock()

    def work(device: str) -> None:
        while got := queue.lease(device, ANY, 60):
            answer(got)
            with lock:
                answered[got.page.name] += 1

    threads = [threading.Thread(target=work, args=(f"phone {n}",)) for n in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert set(answered.values()) == {1}
    assert len(answered) == 2000
    assert queue.counts()["done"] == 2000


def test_nothing_is_lost_when_redis_is_asked_in_between() -> None:
    pages = [page(f"{number}.png") for number in range(1200)]
    for start in range(0, 1200, 400):
        queue.put(pages[start : start + 400])
    found: list[str] = []
    while rows := queue.ids(start=len(found), most=500):
        found += rows

    assert found == [each.id for each in pages]


# Devices


def test_a_device_is_known_by_who_sends_it_and_a_name_without_tricks() -> None:
    assert devices.name("token/1", "my phone\n\x1b[31m") == "token/1/my phone31m"
    assert devices.name("token/1", "../../x") == "token/1/....x"
    assert devices.name("token/1", "") == "token/1/device"


def test_a_device_whose_readings_differ_gets_no_more_pages_until_it_is_forgotten() -> None:
    queue.put([page("a.png"), page("b.png")])
    lease("liar")
    devices.check("liar")
    for agreed in (True, False, False, False):
        devices.note_check("liar", agreed)

    with pytest.raises(errors.DeviceDistrusted):
        devices.check("liar")
    assert not devices.latest()[0].trusted
    assert devices.forget("liar")
    devices.check("liar")


def test_a_device_that_mostly_agrees_stays_trusted() -> None:
    for number in range(20):
        devices.note_check("good", agreed=number % 5 != 0)

    devices.check("good")


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("a b c", "a b c", 1.0),
        ("a b", "c d", 0.0),
        ("", "", 1.0),
        ("a", "", 0.0),
        ("a b", "b a", 1),
    ],
)
def test_likeness_is_over_words(one: str, other: str, alike: float) -> None:
    assert devices.likeness(one, other) == alike
