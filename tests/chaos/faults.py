"""Faults: each one is a function that causes it, and returns what it affected."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Callable

import psutil
import redis

from tests.chaos.stack import Stack, kill, pause

Fault = Callable[[Stack, random.Random], str]

#: The probability with which a process dies at each failpoint while that fault is active.
FAILPOINTS = ",".join(
    f"{name}={chance}"
    for name, chance in {
        "after_record": 0.1,
        "after_publish": 0.1,
        "after_claim": 0.15,
        "after_page": 0.05,
        "before_store": 0.1,
        "after_store": 0.1,
        "before_commit": 0.15,
        "after_commit": 0.15,
        "before_give_back": 0.2,
        "after_give_back": 0.2,
    }.items()
)


def kill_child(stack: Stack, dice: random.Random) -> str:
    """Kills a child process of a worker."""
    children = [child for name in stack.worker_names() for child in stack.children(name)]
    if not children:
        return ""
    victim = dice.choice(children)
    kill(victim)
    return f"child {victim.pid}"


def kill_worker(stack: Stack, dice: random.Random) -> str:
    """Kills a whole worker, as if its host had failed."""
    name = dice.choice(stack.worker_names())
    for process in [stack.servers[name].process, *stack.children(name)]:
        kill(process)
    return name


def kill_web(stack: Stack, dice: random.Random) -> str:
    """Kills the web server during uploads, but not before it has started."""
    if not stack.answers():
        return ""
    server = psutil.Process(stack.servers["web"].process.pid)
    for process in [server, *server.children(recursive=True)]:
        kill(process)
    return "web"


def kill_redis(stack: Stack, dice: random.Random) -> str:
    """Kills Redis, which loads its file when it is started again."""
    kill(stack.servers["redis"].process)
    return "redis"


def stop_worker(stack: Stack, dice: random.Random) -> str:
    """Stops a worker, and starts another one in its place."""
    name = dice.choice(stack.worker_names())
    stack.dismiss(name)
    return name


def cut_connections(stack: Stack, dice: random.Random) -> str:
    """Closes all connections to Redis."""
    try:
        stack.redis().execute_command("CLIENT", "KILL", "TYPE", "normal")
    except redis.RedisError:
        return ""
    return "connections"


def pause_worker(stack: Stack, dice: random.Random) -> str:
    """Suspends a worker until its leases have expired, then resumes it."""
    name = dice.choice(stack.worker_names())
    seconds = stack.lease_seconds * dice.uniform(1.2, 2.5)
    try:
        victim = psutil.Process(stack.servers[name].process.pid)
    except psutil.NoSuchProcess:
        return ""
    threading.Thread(target=pause, args=(victim, seconds), daemon=True).start()
    return f"{name} for {seconds:.1f} s"


def fill_disk(stack: Stack, dice: random.Random) -> str:
    """Fills the storage for a while, if it is a small file system of its own."""
    free = shutil.disk_usage(stack.data).free
    if free > 1 << 30:
        return ""
    ballast = stack.data / "ballast"
    try:
        with ballast.open("wb") as file:
            file.write(b"\0" * max(0, free - dice.choice((0, 4096, 200_000))))
    except OSError:
        pass  # the disk is full, as intended
    threading.Timer(dice.uniform(1, 3), lambda: ballast.unlink(missing_ok=True)).start()
    return "storage"


def fail_at_points(stack: Stack, dice: random.Random) -> str:
    """Restarts workers and web server with failpoints, at which they die between related steps."""
    stack.failpoints = FAILPOINTS
    for name in [*stack.worker_names(), "web"]:
        stack.dismiss(name)
    return "from now on"


#: Faults with their frequencies.
FAULTS: dict[Fault, int] = {
    kill_child: 6,
    kill_worker: 4,
    kill_web: 2,
    kill_redis: 2,
    stop_worker: 2,
    cut_connections: 2,
    pause_worker: 2,
    fill_disk: 1,
}

#: Faults that count as kills.
KILLS = (kill_child, kill_worker, kill_web, kill_redis)
