"""Tests of the cron expressions: the reading of the backend, the reading of people, the words, the firings."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeflow.cron import CronError, parse_backend, understand

# A Wednesday.
START = datetime.datetime(2026, 4, 1, 12, 0, tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize(
    ("text", "expression", "meaning"),
    [
        pytest.param("0 3 * * 1", "0 0 3 * * 1", "at 03:00 on Monday", id="five fields"),
        pytest.param("0 0 3 * * 1", "0 0 3 * * 1", "at 03:00 on Monday", id="six fields"),
        pytest.param("30 0 3 * * *", "30 0 3 * * *", "at 03:00:30 every day", id="seconds"),
        pytest.param("*/15 * * * *", "0 */15 * * * *", "every 15 minutes of every hour every day", id="every quarter"),
        pytest.param("0 6,18 * * *", "0 0 6,18 * * *", "at 06:00 and 18:00 every day", id="twice a day"),
        pytest.param("0 9-17 * * mon-fri", "0 0 9-17 * * mon-fri",
                     "minute 0 of hours 9 to 17 on Monday to Friday", id="working hours"),
        pytest.param("0 3 * * 7", "0 0 3 * * 0", "at 03:00 on Sunday", id="seven is Sunday"),
        pytest.param("0 3 * * 5-7", "0 0 3 * * 5,6,0", "at 03:00 on Friday to Sunday", id="range to seven"),
        pytest.param("0 3 * * fri-sun", "0 0 3 * * 5,6,0", "at 03:00 on Friday to Sunday", id="range to Sunday"),
        pytest.param("0 3 * * 1-7", "0 0 3 * * 1,2,3,4,5,6,0", "at 03:00 every day", id="whole week as 1-7"),
        pytest.param("0 0 3 * * 7", "0 0 3 * * 0", "at 03:00 on Sunday", id="seven in six fields"),
        pytest.param("0 3 * * Monday", "0 0 3 * * mon", "at 03:00 on Monday", id="long day"),
        pytest.param("0 3 1 January *", "0 0 3 1 jan *", "at 03:00 on day of the month 1 in January", id="long month"),
        pytest.param("0 3 1 * 1", "0 0 3 1 * 1", "at 03:00 on day of the month 1 or on Monday", id="either day"),
        pytest.param("0 3 */10 * 1", "0 0 3 */10 * 1",
                     "at 03:00 on day of the month 1, 11, 21 and 31, only if it is Monday", id="step joins with and"),
        pytest.param("  0   3 * * ? ", "0 0 3 * * ?", "at 03:00 every day", id="blanks and question mark"),
        pytest.param("@daily", "@daily", "at 00:00 every day", id="macro"),
        pytest.param("@Weekly", "@weekly", "at 00:00 on Sunday", id="macro in capitals"),
        pytest.param("@every 1h30m", "@every 1h30m",
                     "every 1 hour and 30 minutes, counted from the moment it is enabled", id="interval"),
        pytest.param("0 0 29 2 *", "0 0 0 29 2 *", "at 00:00 on day of the month 29 in February", id="leap day"),
    ],
)  # fmt: skip
def test_understand(text: str, expression: str, meaning: str) -> None:
    schedule = understand(text)
    assert schedule.expression == expression
    assert schedule.meaning() == meaning
    parse_backend(schedule.expression)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "empty", id="empty"),
        pytest.param("0 3 * *", "found 4", id="four fields"),
        pytest.param("0 0 3 * * 1 *", r"write '0 0 3 \* \* 1'", id="year field"),
        pytest.param("0 0 3 * * 1 2026", "a year cannot be chosen", id="a given year"),
        pytest.param("TZ=Asia/Shanghai 0 0 3 * * 1", r"write '0 0 3 \* \* 1' without the prefix", id="time zone"),
        pytest.param("CRON_TZ=UTC 0 3 * * 1", "time zone", id="other time zone prefix"),
        pytest.param("0 3 L * *", "day 28 is the last that every month has", id="last day"),
        pytest.param("0 3 15W * *", "nearest weekday", id="nearest weekday"),
        pytest.param("0 3 * * 5#2", "n-th weekday", id="second Friday"),
        pytest.param("0 3 31 2 *", "never fires", id="31 February"),
        pytest.param("0 3 30,31 2 *", "never fires", id="30 and 31 February"),
        pytest.param("0 3 31 4,6,9,11 *", "never fires", id="31 of short months"),
        pytest.param("60 3 * * *", "'60' lies outside 0 to 59", id="minute 60"),
        pytest.param("0 24 * * *", "outside 0 to 23", id="hour 24"),
        pytest.param("0 3 0 * *", "outside 1 to 31", id="day 0"),
        pytest.param("0 3 * * 8", "outside 0 to 6", id="day of week 8"),
        pytest.param("0 22-2 * * *", "write '22-23,0-2'", id="range over midnight"),
        pytest.param("*/90 * * * *", "@every 90m", id="step longer than the hour"),
        pytest.param("*/0 * * * *", "not a positive number", id="step of 0"),
        pytest.param("0 3 * * x", "neither a number nor a name", id="nonsense"),
        pytest.param("0 3 1,, * *", "empty entry", id="empty entry"),
        pytest.param("@reboot", "knows no @reboot", id="unknown macro"),
        pytest.param("@every 2d", "write '@every 48h'", id="days in an interval"),
        pytest.param("@every soon", "not a duration", id="no duration"),
        pytest.param("@every 0s", "not positive", id="zero interval"),
    ],
)
def test_understand_refuses(text: str, message: str) -> None:
    with pytest.raises(CronError, match=message):
        understand(text)


@pytest.mark.parametrize(
    ("expression", "meaning"),
    [
        pytest.param("0 3 * * 1", "minute 3 of every hour every day in January", id="five fields are shifted"),
        pytest.param("0 0 3 31 2 *", "at 03:00 on day of the month 31 in February", id="never fires, accepted"),
        pytest.param("0 5/20 * * * *", "minutes 5, 25 and 45 of every hour every day", id="start with step"),
    ],
)
def test_backend_reading(expression: str, meaning: str) -> None:
    assert parse_backend(expression).meaning() == meaning


@pytest.mark.parametrize(
    "expression",
    ["", "0 0 3 * * 7", "0 0 3 L * *", "TZ=UTC 0 0 3 * * 1", "0 3 * *", "0 0 3 * * 1 *", "@Daily", "0 0 3 * * monday"],
)
def test_backend_refuses(expression: str) -> None:
    with pytest.raises(CronError):
        parse_backend(expression)


@pytest.mark.parametrize(
    ("text", "firings"),
    [
        pytest.param("0 3 * * 1", ["2026-04-06 03:00:00", "2026-04-13 03:00:00"], id="Mondays"),
        pytest.param("0 12 * * *", ["2026-04-02 12:00:00", "2026-04-03 12:00:00"], id="later than now, not now"),
        pytest.param("0 0 29 2 *", ["2028-02-29 00:00:00", "2032-02-29 00:00:00"], id="leap days"),
        pytest.param("0 3 31 * *", ["2026-05-31 03:00:00", "2026-07-31 03:00:00"], id="months with 31 days"),
        pytest.param("0 0 1 * 1", ["2026-04-06 00:00:00", "2026-04-13 00:00:00"], id="either day"),
        pytest.param("0 0 */2 * 1", ["2026-04-13 00:00:00", "2026-04-27 00:00:00"], id="both days"),
        pytest.param("@every 90m", ["2026-04-01 13:30:00", "2026-04-01 15:00:00"], id="interval"),
    ],
)
def test_firings(text: str, firings: list[str]) -> None:
    times = understand(text).next_firings(START, 2)
    assert [f"{time:%Y-%m-%d %H:%M:%S}" for time in times] == firings
    assert all(time.tzinfo is START.tzinfo for time in times)


def test_a_schedule_within_the_minute_is_noticed() -> None:
    assert understand("* * * * * *").fires_more_than_once_a_minute()
    assert understand("@every 10s").fires_more_than_once_a_minute()
    assert not understand("* * * * *").fires_more_than_once_a_minute()


@given(st.integers(0, 59), st.integers(0, 23), st.integers(1, 28), st.integers(1, 12), st.integers(0, 7))
def test_five_fields_fire_where_they_say(minute: int, hour: int, day: int, month: int, week_day: int) -> None:
    schedule = understand(f"{minute} {hour} {day} {month} {week_day}")
    assert len(schedule.expression.split()) == 6
    for time in schedule.next_firings(START, 3):
        assert (time.second, time.minute, time.hour, time.month) == (0, minute, hour, month)
        assert time.day == day or time.isoweekday() % 7 == week_day % 7


@given(st.text(alphabet="0123456789*/-,? @LW#TZ=evrymonday", max_size=20))
def test_any_text_is_understood_for_the_backend_or_refused(text: str) -> None:
    try:
        schedule = understand(text)
    except CronError:
        return
    assert parse_backend(schedule.expression).meaning() == schedule.meaning()
