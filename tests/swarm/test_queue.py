"""The page queue of the swarm, with a real Redis: leases and their transitions."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
import redis

from ocr_tasks import settings
from ocr_tasks.redis import connection
from ocr_tasks.swarm import devices, queue, redis_keys
from ocr_tasks.swarm import errors as swarm_errors
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
    """Expires the leases of pages."""
    for each in pages:
        connection.client().zadd(f"{redis_keys.SWARM}leases", {each.id: 1}, xx=True)


def state(of: SwarmPage) -> str | None:
    return queue.state(of.id).get("state")


def test_pages_are_leased_in_order_each_to_one_device() -> None:
    queue.put([page("a.png"), page("b.png")])

    assert [lease("one").page.name, lease("two").page.name] == ["a.png", "b.png"]
    assert queue.lease("three", ANY, 60) is None


def test_known_pages_are_skipped_in_any_state() -> None:
    assert queue.put([page()]) == [True]
    assert queue.put([page()]) == [False]
    answer(lease())
    assert queue.put([page(), page("b.png")]) == [False, True]


def test_a_page_with_a_transcript_is_finished() -> None:
    queue.put([page()])
    answer(lease())

    assert state(page()) == "done"
    states = {"waiting": 0, "leased": 0, "done": 1, "aside": 0}
    assert queue.counts() == {**states, "transcripts": 1, "checked": 0, "unchecked": 0}
    assert queue.lease("other", ANY, 60) is None


def test_a_page_whose_lease_expires_keeps_its_position() -> None:
    queue.put([page("a.png"), page("b.png")])
    lease("gone")
    run_out(page("a.png"))

    assert lease("other").page.name == "a.png"
    device = devices.latest()[-1]
    assert (device.name, device.expired, device.open) == ("gone", 1, 0)


def test_a_renewed_lease_does_not_expire() -> None:
    queue.put([page()])
    got = lease(seconds=60)
    run_out(page())
    queue.renew(got.id, 60)

    assert queue.lease("other", ANY, 60) is None


def docr_lease(device: str = "docr") -> Lease:
    """Leases a page like a client that cannot renew leases."""
    found = queue.lease(device, ANY, 900, 180)
    assert found
    return found


def become_overdue(of: SwarmPage, since: int = 1) -> None:
    key = f"{redis_keys.SWARM}overdue:{of.group}"
    assert connection.client().zadd(key, {of.id: since}, xx=True, ch=True)
    of_device = f"{key}:{queue.state(of.id)['device']}"
    connection.client().zadd(of_device, {of.id: since}, xx=True)


def test_an_overdue_page_is_leased_again_if_no_other_page_waits() -> None:
    queue.put([page("a.png"), page("b.png")])
    slow = docr_lease("slow")
    become_overdue(page("a.png"))
    assert lease("two").page.name == "b.png"
    assert queue.lease("blind", Abilities(languages=frozenset({"deu"})), 60) is None

    assert lease("three").page.name == "a.png"
    assert queue.lease("four", ANY, 60) is None
    answer(slow)
    assert state(page("a.png")) == "done"
    found = {row.name: (row.open, row.expired) for row in devices.latest()}
    assert found["slow"] == (0, 1)
    assert found["three"] == (0, 0)


def test_a_page_that_is_not_overdue_or_whose_lease_is_renewed_is_not_leased_again() -> None:
    queue.put([page("a.png"), page("b.png")])
    docr_lease("slow")
    lease("renews")

    assert queue.lease("other", ANY, 900, 180) is None


def test_a_client_that_has_died_gets_its_overdue_page_again() -> None:
    queue.put([page()])
    docr_lease()
    become_overdue(page())

    assert docr_lease().page == page()


def test_a_page_that_is_overdue_too_often_is_set_aside() -> None:
    queue.put([page()])
    for number in range(3):
        docr_lease(f"docr-{number}")
        become_overdue(page())

    assert queue.lease("other", ANY, 60) is None
    assert state(page()) == "aside"
    assert queue.state(page().id)["reason:3"] == "docr-2 has sent no transcript in time"


def test_a_client_with_the_maximum_of_leases_gets_its_own_overdue_pages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OCR_SWARM_LEASES_MAX", "1")
    settings.clear()
    queue.put([page("a.png"), page("b.png"), page("c.png")])
    assert [docr_lease(name).page.name for name in ("one", "two")] == ["a.png", "b.png"]
    become_overdue(page("a.png"))
    with pytest.raises(swarm_errors.TooManyLeases) as refused:
        docr_lease("two")
    assert refused.value.retry_after == 180

    assert docr_lease("one").page.name == "a.png"
    assert docr_lease("three").page.name == "c.png"


def test_a_client_gets_its_own_overdue_pages_however_many_are_overdue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OCR_SWARM_LEASES_MAX", "51")
    settings.clear()
    pages = [page(f"{number:03}.png") for number in range(102)]
    queue.put(pages)
    for number in range(102):
        docr_lease("one" if number < 51 else "two")
    for since, each in enumerate(pages, start=1):
        become_overdue(each, since)

    assert docr_lease("two").page.name == "051.png"


def test_a_released_page_waits_and_has_not_failed() -> None:
    queue.put([page()])
    for _ in range(5):
        queue.release(lease().id)

    assert state(page()) == "waiting"
    assert queue.state(page().id)["failures"] == "0"


def test_a_page_that_three_devices_failed_is_set_aside_with_the_reasons() -> None:
    queue.put([page()])
    for device in ("one", "two", "three"):
        queue.fail(lease(device).id, f"too dark for {device}")

    assert state(page()) == "aside"
    assert queue.state(page().id)["reason:2"] == "too dark for two"
    assert queue.lease("four", ANY, 60) is None
    assert queue.counts()["aside"] == 1


def test_a_device_does_not_get_a_page_again_that_it_failed() -> None:
    queue.put([page("a.png"), page("b.png")])
    queue.fail(lease("one").id, "too dark")

    assert lease("one").page.name == "b.png"
    assert lease("two").page.name == "a.png"


def test_a_page_is_set_aside_if_devices_never_respond() -> None:
    queue.put([page()])
    for number in range(3):
        lease(f"silent {number}")
        run_out(page())
    assert queue.lease("other", ANY, 60) is None

    assert state(page()) == "aside"
    assert "silent 1" in queue.state(page().id)["reason:2"]


def test_a_late_transcript_is_accepted_if_there_is_no_other() -> None:
    queue.put([page()])
    late = lease("late")
    run_out(page())
    other = lease("other")
    answer(late)

    assert state(page()) == "done"
    with pytest.raises(swarm_errors.LeaseLost):
        queue.accept(other.id)
    assert devices.latest()[0].open == 0


def test_a_late_transcript_is_refused_if_there_is_another() -> None:
    queue.put([page()])
    late = lease("late")
    run_out(page())
    answer(lease("other"))

    with pytest.raises(swarm_errors.LeaseLost):
        queue.accept(late.id)
    assert state(page()) == "done"


def test_a_late_transcript_finishes_a_page_that_was_set_aside() -> None:
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


def test_while_a_transcript_is_stored_no_other_is_accepted() -> None:
    queue.put([page()])
    slow = lease("slow")
    run_out(page())
    quick = lease("quick")
    storing = queue.accept(slow.id)
    with pytest.raises(swarm_errors.LeaseLost):
        queue.accept(quick.id)
    queue.finish(storing)

    assert state(page()) == "done"


def test_a_server_that_dies_while_storing_does_not_block_the_page() -> None:
    queue.put([page()])
    dead = queue.accept(lease("one").id)
    run_out(page())
    connection.client().hset(f"{redis_keys.SWARM}page:{page().id}", "storing_until", 1)
    answer(lease("two"))

    with pytest.raises(swarm_errors.LeaseLost):
        queue.finish(dead)


@pytest.mark.parametrize("bad", ["", "x", "../../etc/passwd", "0" * 32, f"{'0' * 32}-{'0' * 31}g"])
def test_an_invalid_lease_is_unknown(bad: str) -> None:
    for use in (queue.accept, queue.find, queue.release):
        with pytest.raises(swarm_errors.LeaseUnknown):
            use(bad)


def test_an_invented_lease_is_unknown() -> None:
    queue.put([page()])
    lease()
    forged = f"{page().id}-{'0' * 32}"

    for use in (queue.accept, queue.find, queue.release):
        with pytest.raises(swarm_errors.LeaseUnknown):
            use(forged)


def test_a_lease_of_a_deleted_page_is_reported_as_such() -> None:
    queue.put([page()])
    got = lease()
    queue.remove(page().id)

    for use in (queue.accept, queue.find, queue.release):
        with pytest.raises(swarm_errors.PageWithdrawn):
            use(got.id)


def test_the_number_of_pages_per_device_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_SWARM_LEASES_MAX", "2")
    settings.clear()
    queue.put([page(f"{number}.png") for number in range(5)])
    first = lease()
    lease()
    with pytest.raises(swarm_errors.TooManyLeases):
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
def test_a_device_gets_pages_that_it_can_process(abilities: Abilities, fits: bool) -> None:
    queue.put([page(languages=("deu", "eng"))])

    assert (queue.lease("phone", abilities, 60) is not None) == fits


def test_a_device_without_word_positions_gets_no_pages_of_jobs() -> None:
    queue.keep_batch("run")
    queue.put([job_page()])

    assert queue.lease("old phone", Abilities(formats=frozenset({"text"})), 60) is None
    assert queue.lease("phone", Abilities(formats=frozenset({"hocr"})), 60)


def test_pages_of_jobs_come_first() -> None:
    queue.put([page()])
    queue.keep_batch("run")
    queue.put([job_page()])

    assert lease().page.job_id == "job"


def test_the_page_that_has_waited_longest_comes_first_among_collections() -> None:
    queue.put([page("first.tif", media_type="image/tiff")])
    queue.put([page("second.jpg", media_type="image/jpeg")])
    queue.put([page("third.tif", media_type="image/tiff")])

    assert [lease().page.name for _ in range(3)] == ["first.tif", "second.jpg", "third.tif"]


def test_pages_that_no_job_needs_any_more_are_not_leased() -> None:
    queue.keep_batch("run")
    queue.put([job_page(1), job_page(2), job_page(3)])
    got = lease()
    connection.client().delete(f"{redis_keys.SWARM}batch:run")

    assert queue.lease("phone", ANY, 60) is None
    with pytest.raises(swarm_errors.PageWithdrawn):
        queue.accept(got.id)
    run_out(job_page(1))
    assert queue.lease("phone", ANY, 60) is None
    assert list(connection.client().scan_iter(f"{redis_keys.SWARM}page:*")) == []


def test_a_job_is_notified_of_the_state_of_its_pages() -> None:
    queue.keep_batch("run")
    queue.put([job_page(1), job_page(2)])
    answer(lease("good"))
    for device in ("one", "two", "three"):
        queue.fail(lease(device).id, "too dark")

    assert queue.wait_for_result(job_page(1), 1) == "done good"
    assert queue.wait_for_result(job_page(2), 1) == "aside"
    assert queue.wait_for_result(job_page(1), 0.1) is None


def test_a_page_can_be_withdrawn_unless_its_transcript_is_being_stored() -> None:
    queue.keep_batch("run")
    queue.put([job_page(1), job_page(2)])
    queue.accept(lease().id)

    assert not queue.remove(job_page(1).id)
    assert queue.remove(job_page(2).id)
    assert queue.remove(job_page(2).id)


def test_a_transcript_that_is_not_stored_in_the_end_blocks_nothing() -> None:
    queue.keep_batch("run")
    queue.put([job_page(1)])
    bad = queue.accept(lease("bad").id)
    assert not queue.remove(job_page(1).id)
    queue.abandon(bad)

    assert queue.remove(job_page(1).id)


def test_a_page_for_a_cross_check_goes_to_another_client() -> None:
    queue.put([page()])
    queue.finish(queue.accept(lease("token/a/one").id), again=True)

    assert state(page()) == "waiting"
    assert queue.lease("token/a/one", ANY, 60) is None
    assert queue.lease("token/a/two", ANY, 60) is None
    answer(lease("token/b/one"))
    assert state(page()) == "done"


def test_pages_for_a_cross_check_hide_no_others_and_come_first_for_another_client() -> None:
    queue.put([page(f"{number:02}.png") for number in range(52)])
    for _ in range(51):
        queue.finish(queue.accept(lease("token/a/one").id), again=True)
    queue.put([page("later.png")])

    assert lease("token/b/one").page.name == "00.png"
    assert [lease("token/a/one").page.name for _ in range(2)] == ["51.png", "later.png"]
    assert queue.lease("token/a/two", ANY, 60) is None
    for _ in range(50):
        answer(lease("token/b/one"))
    assert queue.counts()["done"] == 50


def test_a_page_that_a_device_failed_goes_to_another_one_of_its_client() -> None:
    queue.put([page()])
    queue.fail(lease("token/a/one").id, "too dark")

    assert queue.lease("token/a/one", ANY, 60) is None
    assert lease("token/a/two")


def test_without_its_lease_a_transcript_is_accepted_only_from_a_client_that_had_the_page() -> None:
    queue.put([page("a.png"), page("b.png")])
    first = lease("address/10.0.0.1/docr")
    for client in ("address/10.0.0.2", "address/10.0.0.1/docr", ""):
        with pytest.raises(swarm_errors.LeaseUnknown):
            queue.accept_for(first.page.id, client)
    with pytest.raises(swarm_errors.LeaseUnknown):
        queue.accept_for(page("b.png").id, "address/10.0.0.1")
    run_out(page("a.png"))
    other = lease("address/10.0.0.2/docr")
    assert other.page == first.page

    accepted = queue.accept_for(first.page.id, "address/10.0.0.1")
    assert (accepted.lease, accepted.device) == (first.id, "address/10.0.0.1/docr")
    queue.finish(accepted)
    assert queue.accept_for(first.page.id, "address/10.0.0.1").page is None


def test_fifty_concurrent_devices_finish_each_page_once() -> None:
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


def test_a_long_list_of_pages_is_complete() -> None:
    pages = [page(f"{number}.png") for number in range(1200)]
    for start in range(0, 1200, 400):
        queue.put(pages[start : start + 400])
    found: list[str] = []
    while rows := queue.ids(start=len(found), most=500):
        found += rows

    assert found == [each.id for each in pages]


# Devices


def test_a_device_is_identified_by_its_client_and_a_safe_name() -> None:
    assert devices.name("token/1", "my phone\n\x1b[31m") == "token/1/my phone31m"
    assert devices.name("token/1", "../../x") == "token/1/....x"
    assert devices.name("token/1", "") == "token/1/device"


def test_a_device_with_different_results_gets_no_more_pages_until_it_is_reset() -> None:
    queue.put([page("a.png"), page("b.png")])
    lease("liar")
    devices.check("liar")
    for agreed in (True, False, False, False):
        devices.note_check("liar", agreed)

    with pytest.raises(swarm_errors.DeviceDistrusted):
        devices.check("liar")
    assert not devices.latest()[0].trusted
    assert devices.forget("liar")
    devices.check("liar")


def test_trust_is_that_of_the_client_whatever_names_its_devices_choose() -> None:
    queue.put([page()])
    for number in range(3):
        devices.note_check(f"token/liar/{number}", agreed=False)
    assert lease("address/2001:db8::/64/phone")
    for trusted in ("token/other/0", "token/lia/0", "address/2001:db8::/64/phone"):
        devices.check(trusted)

    with pytest.raises(swarm_errors.DeviceDistrusted):
        devices.check("token/liar/new")
    assert devices.forget("token/liar/new")
    devices.check("token/liar/1")


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
def test_similarity_is_computed_with_words(one: str, other: str, alike: float) -> None:
    assert devices.likeness(one, other) == alike


def test_records_above_the_maximum_are_deleted_except_those_of_blocked_clients(
    service: redis.Redis,
) -> None:
    prefix = redis_keys.SWARM
    names = {f"token/{number:05}": number for number in range(10_001)}
    service.zadd(f"{prefix}clients", names)
    service.hset(f"{prefix}client:token/00000", "disagreed", 3)
    service.hset(f"{prefix}client:token/00001", "checked", 1)

    queue.lease("token/new/one", ANY, 60)

    assert service.zrange(f"{prefix}clients", 0, 1) == ["token/00000", "token/00003"]
    assert service.exists(f"{prefix}client:token/00000") == 1
    assert service.exists(f"{prefix}client:token/00001") == 0
