# SPDX-License-Identifier: MIT
"""The scenarios of scripts/compare: one value each. docs/compare.md says what each is like."""

from .compare_scenario import Backends, Clients, Event, Scenario, Times, Wander, fault

BAD = 2  # the backend that fails where one does
ALL4 = (1, 2, 3, 4)

# A backend at half of its capacity: one that is five times slower is overloaded, and three carry
# what four did.
ONE_FAULT = {"faulty": (BAD,), "aim": "fault"}

# Storms need a load near the capacity; at 400/s the attempts of a storm (up to five for each
# request) are still what two cores carry.
NEAR = Backends(service_time_ms=36)  # 444/s
STORM_SCALING = "400 requests/s: a storm's attempts are up to 5 times that, on 2 cores"


def one_fault(name, about, kind, **parameters):
    return Scenario(name, about, events=fault(kind, (BAD,), **parameters), **ONE_FAULT)


def brownout(steps=20, most=30.0):
    """Slower by a constant factor at each step."""
    rising = tuple(Event(n / steps, "fault", (BAD,),
                         {"kind": "slow", "factor": round(most ** ((n + 1) / steps), 3)})
                   for n in range(steps))
    return (*rising, Event(1.0, "fault", (BAD,), {"kind": "none"}))


def flapping(times=5):
    return tuple(event for n in range(times)
                 for event in fault("hang", (BAD,), begin=n / times, end=(n + 0.5) / times))


def rolling(backends):
    """Drained, restarted, taken back: one after the other."""
    part = 1 / len(backends)
    return tuple(event for n, i in enumerate(backends) for event in (
        Event(n * part, "drain", (i,)), Event((n + 0.6) * part, "restart", (i,)),
        Event((n + 0.75) * part, "undrain", (i,))))


def impaired(name, about, direction="both", aim=None, faulty=(), **of_each):
    """netem on the link to b2."""
    return Scenario(name, f"b2's link {about}", aim=aim, faulty=faulty, needs="netem",
                    events=(Event(0, "impair", (BAD,), {"direction": direction, **of_each}),
                            Event(1, "clear", (BAD,))))


def capacity_drop(name, seconds, extra=False):
    return Scenario(
        name, f"three backends at 90 % of capacity, capacity cut by 80 % for {seconds} s",
        backends=Backends(count=3, service_time_ms=27, queue=2000),
        clients=Clients(rate_per_s=400, timeout_ms=3000, retry="fixed", retry_delay_ms=100,
                        max_attempts=5, patience_ms=6000),
        events=fault("slow", (1, 2, 3), factor=5), times=Times(6, seconds, 16),
        quick=Times(4, seconds, 10), aim="storm", capacity_during=0.2,
        scaling="400 requests/s instead of 6,200: " + STORM_SCALING, extra=extra)


def antagonist(percent):
    backends = Backends(service_time_ms=40)  # 100/s each at nominal speed
    return Scenario(
        f"antagonist-{percent}", "four backends whose speed changes every 2 s between 0.8 and 2.2 "
        f"of the nominal, load {percent / 100} of the nominal",
        backends=backends,
        clients=Clients(rate_per_s=round(backends.capacity_per_s * percent / 100),
                        timeout_ms=3000, patience_ms=3000),
        wander=Wander(0.8, 2.2, 2.0), times=Times(4, 20, 4), quick=Times(2, 10, 2),
        aim="latency", scaling="speeds of a queue, not CPU quotas: 4 backends of 100 requests/s")


_ALL = (
    Scenario("healthy", "nothing goes wrong", aim="healthy"),
    one_fault("hang", "b2 accepts and never answers", "hang"),
    one_fault("reset", "b2 resets each connection", "reset"),
    one_fault("refuse", "b2 has no listener", "refuse"),
    one_fault("blackhole", "b2's packets vanish", "blackhole"),
    one_fault("slow", "b2 takes 5 times as long, so that its capacity is under its load", "slow",
              factor=5),
    one_fault("errors", "b2 answers 503 to a fifth of the requests", "errors", rate=0.2),
    Scenario("brownout", "b2 gets slower step by step, in the end 30 times", events=brownout(),
             faulty=(BAD,)),
    Scenario("gray", "one network path in ten to b2 drops all packets",
             events=(Event(0, "gray", (BAD,), {"one_in": 10}), Event(1, "ungray", (BAD,)))),
    impaired("loss", "loses 5 % of the packets in each direction", aim="never-less",
             faulty=(BAD,), loss=5),
    impaired("delay", "takes 100 ms longer from b2", "out", aim="healthy", delay=100),
    impaired("reorder", "takes 20 ms longer in each direction for three packets of four, so that "
             "they are overtaken", aim="healthy", delay=20, reorder=25),
    Scenario("flap", "b2 hangs for a tenth of the time and works for a tenth, five times",
             events=flapping(), faulty=(BAD,)),
    Scenario("zone", "a third of the backends hangs: b1 and b2 of six", backends=Backends(count=6),
             events=fault("hang", (1, 2)), faulty=(1, 2), aim="never-less"),
    Scenario("all-bad", "every backend answers 503 to half of the requests",
             events=fault("errors", ALL4, rate=0.5), aim="never-less"),
    Scenario("overload", "load goes from 80 to 120 % of the capacity", backends=NEAR,
             clients=Clients(rate_per_s=355),
             events=(Event(0, "surge", (), {"rate_per_s": 178}),), times=Times(6, 10, 14),
             quick=Times(4, 5, 8), aim="storm", capacity_during=1.0, offered_during=1.5,
             scaling=STORM_SCALING),
    Scenario("storm", "all backends are stopped for 3 s at 90 % load; clients retry 3 times, 100 "
             "ms apart", backends=NEAR,
             clients=Clients(rate_per_s=400, retry="fixed", retry_delay_ms=100, max_attempts=4,
                             patience_ms=4300),
             events=(Event(0, "stop", ALL4), Event(1, "continue", ALL4)), times=Times(6, 3, 16),
             quick=Times(4, 3, 10), aim="storm", capacity_during=0.0, scaling=STORM_SCALING),
    Scenario("restart", "each backend in turn is drained, restarted and taken back",
             events=rolling(ALL4), times=Times(4, 12, 8), quick=Times(2, 8, 4), aim="healthy"),
    Scenario("unequal", "b2 has half of the others' slots and the same configured weight",
             backends=Backends(service_time_ms=20, smaller={BAD: 2}),
             clients=Clients(rate_per_s=480, timeout_ms=3000, patience_ms=3000),
             times=Times(4, 16, 4), quick=Times(2, 8, 2), aim="latency"),
    Scenario("herd", "all backends refuse, one after the other; all are back at once",
             backends=NEAR, clients=Clients(rate_per_s=333),
             events=tuple(e for i in ALL4 for e in fault("refuse", (i,), begin=(i - 1) * 0.1)),
             times=Times(6, 6, 12), quick=Times(4, 4, 8), aim="never-less", scaling=STORM_SCALING),
    Scenario("one-slow-of-11", "eleven backends of 167 ms, one of which answers in 2 s",
             backends=Backends(count=11, service_time_ms=167, sigma=0.03, concurrency=256),
             clients=Clients(rate_per_s=440, patience_ms=1000),
             events=fault("slow", (BAD,), factor=12), times=Times(15, 30, 15),
             quick=Times(5, 10, 5), faulty=(BAD,), aim="within",
             scaling="440 requests/s instead of 1,000, as 12 processes share 2 cores"),
    capacity_drop("capacity-drop", 10),
    *(capacity_drop(f"capacity-drop-{seconds}s", seconds, extra=True)
      for seconds in (1, 2, 3, 5, 7, 15, 20)),
    *(antagonist(percent) for percent in (75, 103, 127)),
)

SCENARIOS = {scenario.name: scenario for scenario in _ALL}
