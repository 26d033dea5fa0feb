from tests.shell.fakemarket import SPOT
from tests.venues.binance.venuestage import Stage


def test_made_up_ids_differ_and_fit() -> None:
    seat = Stage(SPOT).seats[0]
    made = [seat.new_id("cancel") for _ in range(3)]
    assert len(dict.fromkeys(made)) == 3
    assert all(len(one) <= 36 for one in made)


def test_seats_count_and_stream_by_themselves() -> None:
    one, two = Stage(SPOT).seats
    one.counts.count(3, 0)
    assert dict(one.counts.headers(0))["X-MBX-ORDER-COUNT-10S"] == "3"
    assert dict(two.counts.headers(0))["X-MBX-ORDER-COUNT-10S"] == "0"
    assert one.stream.name != two.stream.name
