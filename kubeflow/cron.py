"""Cron expressions of the Kubeflow Pipelines scheduler: what users write, what the backend needs, when it fires.

The backend parses with robfig/cron v1.2.0: six fields, seconds first. Five fields are accepted by it too, but shifted:
`0 3 * * 1` becomes "minute 3 of every hour in January". So two readings live here: `parse_backend` reads as the backend
does, and `understand` reads as people mean it and returns the expression to send.
"""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Iterator

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTH_NAMES = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_DAY_NAMES = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
# The backend gives up after this many years without a match, and the schedule never fires.
_YEARS_SEARCHED = 5


class CronError(ValueError):
    """Raised for an expression that the backend refuses or would read differently; the message holds the correction."""


@dataclasses.dataclass(frozen=True)
class _FieldBounds:
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    # The number that names[0] stands for.
    names_from: int = 0


_FIELDS = (
    _FieldBounds("second", 0, 59),
    _FieldBounds("minute", 0, 59),
    _FieldBounds("hour", 0, 23),
    _FieldBounds("day of month", 1, 31),
    _FieldBounds("month", 1, 12, _MONTHS, 1),
    _FieldBounds("day of week", 0, 6, _DAYS, 0),
)
_MACROS = {
    "@yearly": "0 0 0 1 1 *",
    "@annually": "0 0 0 1 1 *",
    "@monthly": "0 0 0 1 * *",
    "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *",
    "@midnight": "0 0 0 * * *",
    "@hourly": "0 0 * * * *",
}


@dataclasses.dataclass(frozen=True)
class _Field:
    values: frozenset[int]
    # Whether `*` or `?` occurs in the field; the backend joins the two day fields with "and" then, else with "or".
    star: bool


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When a recurring run fires.

    Attributes:
        expression: what to send to the backend.
        fields: second, minute, hour, day of month, month, day of week; empty for an interval.
        interval: the time between two runs of an `@every` expression, else None.
    """

    expression: str
    fields: tuple[_Field, ...] = ()
    interval: datetime.timedelta | None = None

    def firings(self, after: datetime.datetime) -> Iterator[datetime.datetime]:
        """Yields the times later than `after`, in its time zone, that the backend's five-year search would find."""
        if self.interval is not None:
            time = after.replace(microsecond=0)
            while True:
                time += self.interval
                yield time
        second, minute, hour, _, month, _ = self.fields
        times = [
            datetime.time(h, m, s)
            for h in sorted(hour.values)
            for m in sorted(minute.values)
            for s in sorted(second.values)
        ]
        day, last_year = after.date(), after.year + _YEARS_SEARCHED
        while day.year <= last_year:
            if day.month in month.values and self._fires_on(day):
                for time_of_day in times:
                    time = datetime.datetime.combine(day, time_of_day, tzinfo=after.tzinfo)
                    if time > after:
                        last_year = time.year + _YEARS_SEARCHED
                        yield time
            day += datetime.timedelta(days=1)

    def next_firings(self, after: datetime.datetime, count: int = 3) -> list[datetime.datetime]:
        """Returns the first `count` times later than `after`; fewer if the schedule never fires."""
        return [time for _, time in zip(range(count), self.firings(after), strict=False)]

    def meaning(self) -> str:
        """Returns the schedule in words, in the time zone of the backend.

        Example:
            >>> understand("0 3 * * 1").meaning()
            'at 03:00 on Monday'
        """
        if self.interval is not None:
            return f"every {_duration_in_words(self.interval)}, counted from the moment it is enabled"
        return _in_words(self.fields)

    def fires_more_than_once_a_minute(self) -> bool:
        """Whether two firings can lie less than a minute apart, which is seldom meant for a pipeline."""
        if self.interval is not None:
            return self.interval < datetime.timedelta(minutes=1)
        return len(self.fields[0].values) > 1

    def _fires_on(self, day: datetime.date) -> bool:
        day_of_month, day_of_week = self.fields[3], self.fields[5]
        month_day_matches = day.day in day_of_month.values
        week_day_matches = day.isoweekday() % 7 in day_of_week.values
        if day_of_month.star or day_of_week.star:
            return month_day_matches and week_day_matches
        return month_day_matches or week_day_matches


def parse_backend(expression: str) -> Schedule:
    """Reads `expression` exactly as the backend does, shifted five-field expressions included.

    Raises:
        CronError: where the backend refuses the expression.
    """
    if not expression.strip():
        raise CronError("the cron expression is empty")
    if expression.startswith("@"):
        return _parse_descriptor(expression)
    words = expression.split()
    if len(words) not in (5, 6):
        raise CronError(f"expected 5 or 6 fields, found {len(words)}: {expression}")
    if len(words) == 5:
        # A missing day of week stands for every day: so five fields begin with the seconds, too.
        words = [*words, "*"]
    fields = tuple(_parse_field(word, bounds) for word, bounds in zip(words, _FIELDS, strict=True))
    return Schedule(expression, fields)


def understand(text: str) -> Schedule:
    """Reads `text` as a person means it and returns the schedule whose `expression` makes the backend do that.

    Five fields are the classic minute, hour, day of month, month, day of week, and get a leading second 0. Six fields
    begin with the seconds. Day names may be long, 7 is Sunday.

    Raises:
        CronError: for what the backend cannot express or what would never fire; with what to write instead.

    Example:
        >>> understand("0 3 * * 1").expression
        '0 0 3 * * 1'
    """
    stripped = " ".join(text.split())
    if not stripped:
        raise CronError("the cron expression is empty; expected six fields such as '0 0 3 * * 1' (Monday, 03:00)")
    zone = re.match(r"(?:CRON_)?TZ=(\S+)\s*(.*)", stripped)
    if zone:
        raise CronError(
            f"{stripped!r}: the backend refuses a time zone in the expression. It fires in the time zone of its own "
            f"controller (UTC unless CRON_SCHEDULE_TIMEZONE is set there): convert the hours from {zone[1]} "
            f"and write {zone[2]!r} without the prefix"
        )
    if stripped.startswith("@"):
        return _understand_descriptor(stripped)
    words = stripped.split()
    if len(words) == 7:
        hint = f"write {' '.join(words[:6])!r}" if words[6] in ("*", "?") else "a year cannot be chosen"
        raise CronError(f"{stripped!r}: seven fields; the backend knows no field for the year: {hint}")
    if len(words) not in (5, 6):
        raise CronError(
            f"{stripped!r}: expected five fields (minute, hour, day of month, month, day of week) or six (seconds "
            f"first), found {len(words)}. Monday at 03:00 is '0 0 3 * * 1'"
        )
    if len(words) == 5:
        words = ["0", *words]
    normal = [_normal_field(word, bounds, stripped) for word, bounds in zip(words, _FIELDS, strict=True)]
    try:
        schedule = parse_backend(" ".join(normal))
    except CronError as error:
        raise CronError(f"{stripped!r}: {error}") from error
    # A year that is no leap year and no end of a search: what never fires from here never fires.
    if not schedule.next_firings(datetime.datetime(2025, 1, 1), 1):
        raise CronError(
            f"{stripped!r}: this never fires ({schedule.meaning()}); the backend would accept it and stay silent. "
            "Choose a day that the month has"
        )
    return schedule


def _parse_descriptor(expression: str) -> Schedule:
    if expression in _MACROS:
        return dataclasses.replace(parse_backend(_MACROS[expression]), expression=expression)
    if expression.startswith("@every "):
        interval = _parse_duration(expression[len("@every ") :])
        # robfig/cron rounds down to whole seconds, one at least.
        seconds = max(1, int(interval.total_seconds()))
        return Schedule(expression, interval=datetime.timedelta(seconds=seconds))
    raise CronError(f"unrecognised descriptor: {expression}")


def _understand_descriptor(text: str) -> Schedule:
    name, _, rest = text.partition(" ")
    name = name.lower()
    if name in _MACROS and not rest:
        return _parse_descriptor(name)
    if name == "@every":
        days = re.fullmatch(r"(\d+)\s*d(?:ays?)?", rest)
        if days:
            raise CronError(f"{text!r}: the backend knows no days in @every; write '@every {int(days[1]) * 24}h'")
        try:
            return _parse_descriptor(f"@every {rest.replace(' ', '')}")
        except CronError as error:
            raise CronError(f"{text!r}: {error}; write for example '@every 1h30m'") from error
    known = ", ".join([*_MACROS, "@every DURATION"])
    raise CronError(f"{text!r}: the backend knows no {name}; it knows {known}")


_DURATION_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")


def _parse_duration(text: str) -> datetime.timedelta:
    """Reads a duration of the Go language: "90m", "1h30m", "1.5h"."""
    position, seconds = 0, 0.0
    while match := _DURATION_PART.match(text, position):
        seconds += float(match[1]) * _DURATION_UNITS[match[2]]
        position = match.end()
    if not text or position != len(text):
        raise CronError(f"not a duration: {text!r} (units: h, m, s)")
    if seconds <= 0:
        raise CronError(f"the duration {text!r} is not positive")
    return datetime.timedelta(seconds=seconds)


def _parse_field(text: str, bounds: _FieldBounds) -> _Field:
    values: set[int] = set()
    star = False
    for part in text.split(","):
        if not part:
            continue
        part_values, part_star = _parse_range(part, bounds)
        values |= part_values
        star = star or part_star
    return _Field(frozenset(values), star)


def _parse_range(text: str, bounds: _FieldBounds) -> tuple[set[int], bool]:
    range_text, *steps = text.split("/")
    ends = range_text.split("-")
    star = ends[0] in ("*", "?")
    if star:
        start, end = bounds.low, bounds.high
    else:
        if len(ends) > 2:
            raise CronError(f"{bounds.name}: too many hyphens in {text!r}")
        start = _parse_number(ends[0], bounds)
        end = _parse_number(ends[-1], bounds)
    if len(steps) > 1:
        raise CronError(f"{bounds.name}: too many slashes in {text!r}")
    step = 1
    if steps:
        if not steps[0].isdigit() or int(steps[0]) == 0:
            raise CronError(f"{bounds.name}: the step of {text!r} is not a positive number")
        step = int(steps[0])
        if len(ends) == 1:
            end = bounds.high
    if start < bounds.low or end > bounds.high:
        raise CronError(f"{bounds.name}: {text!r} lies outside {bounds.low} to {bounds.high}")
    if start > end:
        correction = f"{start}-{bounds.high},{bounds.low}-{end}"
        raise CronError(f"{bounds.name}: {text!r} runs backwards; write {correction!r}")
    return set(range(start, end + 1, step)), star


def _parse_number(text: str, bounds: _FieldBounds) -> int:
    if text.lower() in bounds.names:
        return bounds.names.index(text.lower()) + bounds.names_from
    if not (text.isascii() and text.isdigit()):
        raise CronError(f"{bounds.name}: {text!r} is neither a number nor a name that the backend knows")
    return int(text)


def _normal_field(text: str, bounds: _FieldBounds, whole: str) -> str:
    """Rewrites what people write into what the backend takes: long names, Sunday as 7, Friday to Sunday."""
    if not all(text.split(",")):
        raise CronError(f"{whole!r}: {bounds.name}: an empty entry in {text!r}")
    return ",".join(_normal_range(part, bounds, whole) for part in text.split(","))


def _normal_range(text: str, bounds: _FieldBounds, whole: str) -> str:
    is_day_of_week = bounds.names is _DAYS
    special = re.fullmatch(r"(?i)(l|lw|\d+l|l-\d+|\d+w|\w+#\d)", text)
    if special and bounds.name.startswith("day"):
        nearest = "28" if not is_day_of_week else "*"
        raise CronError(
            f"{whole!r}: {bounds.name}: the backend knows no {text!r} (last, nearest weekday, n-th weekday). "
            f"Write plain days, for example {nearest!r} as {bounds.name}: day 28 is the last that every month has"
        )
    range_text, slash, step = text.partition("/")
    if slash and step.isdigit() and int(step) > bounds.high - bounds.low:
        raise CronError(
            f"{whole!r}: {bounds.name}: a step of {step} is longer than the field, which starts again at "
            f"{bounds.low}; for other intervals write '@every DURATION', for example '@every 90m'"
        )
    ends = [_normal_name(end, bounds) for end in range_text.split("-")]
    if (
        is_day_of_week
        and len(ends) == 2
        and ends[1] in ("0", "7", "sun")
        and ends[0] not in ("0", "7", "sun", "*", "?")
    ):
        first = _parse_number(ends[0], bounds)
        if first > bounds.high:
            raise CronError(f"{whole!r}: {bounds.name}: {text!r} lies outside 0 to 7 (0 and 7 are Sunday)")
        days = range(first, 8, int(step) if step.isdigit() and int(step) else 1)
        return ",".join(str(day % 7) for day in days)
    if is_day_of_week:
        ends = ["0" if end == "7" else end for end in ends]
    return "-".join(ends) + slash + step


def _normal_name(text: str, bounds: _FieldBounds) -> str:
    long_names = {name.lower(): name[:3].lower() for name in (*_DAY_NAMES, *_MONTH_NAMES)}
    short = long_names.get(text.lower(), text.lower() if text.isalpha() else text)
    return short if short in bounds.names else text


def _in_words(fields: tuple[_Field, ...]) -> str:
    second, minute, hour, _, month, _ = fields
    words = [_time_in_words(second.values, minute.values, hour.values), _days_in_words(fields)]
    if len(month.values) < 12:
        words.append("in " + _list_in_words([_MONTH_NAMES[number - 1] for number in sorted(month.values)]))
    return " ".join(word for word in words if word)


def _time_in_words(seconds: frozenset[int], minutes: frozenset[int], hours: frozenset[int]) -> str:
    if len(seconds) * len(minutes) * len(hours) <= 4:
        times = [(h, m, s) for h in sorted(hours) for m in sorted(minutes) for s in sorted(seconds)]
        with_seconds = seconds != {0}
        return "at " + _list_in_words([f"{h:02}:{m:02}" + (f":{s:02}" if with_seconds else "") for h, m, s in times])
    parts = []
    if seconds != {0}:
        parts.append(_numbers_in_words(seconds, 60, "second"))
    parts.append(_numbers_in_words(minutes, 60, "minute"))
    words = " of ".join(parts)
    return words + (" of every hour" if len(hours) == 24 else " of " + _numbers_in_words(hours, 24, "hour"))


def _numbers_in_words(values: frozenset[int], size: int, unit: str) -> str:
    if len(values) == size:
        return f"every {unit}"
    step = size // len(values)
    if len(values) > 1 and values == set(range(0, size, step)) and size % step == 0:
        return f"every {step} {unit}s"
    return f"{unit}{'s' if len(values) > 1 else ''} {_ranges_in_words(sorted(values))}"


def _days_in_words(fields: tuple[_Field, ...]) -> str:
    day_of_month, day_of_week = fields[3], fields[5]
    month_days = "day of the month " + _ranges_in_words(sorted(day_of_month.values))
    # Monday first, as people count a working week.
    week = sorted(day_of_week.values, key=lambda day: (day - 1) % 7)
    week_days = _ranges_in_words([(day - 1) % 7 for day in week], (*_DAY_NAMES[1:], _DAY_NAMES[0]))
    all_month_days, all_week_days = len(day_of_month.values) == 31, len(day_of_week.values) == 7
    either = not (day_of_month.star or day_of_week.star)
    if (all_month_days and all_week_days) or (either and (all_month_days or all_week_days)):
        return "every day"
    if all_week_days:
        return "on " + month_days
    if all_month_days:
        return "on " + week_days
    return f"on {month_days} or on {week_days}" if either else f"on {month_days}, only if it is {week_days}"


def _ranges_in_words(values: list[int], names: tuple[str, ...] | None = None) -> str:
    groups: list[list[int]] = []
    for value in values:
        if groups and value == groups[-1][-1] + 1:
            groups[-1].append(value)
        else:
            groups.append([value])
    label = (lambda value: names[value]) if names else str
    parts: list[str] = []
    for group in groups:
        if len(group) > 2:
            parts.append(f"{label(group[0])} to {label(group[-1])}")
        else:
            parts.extend(label(value) for value in group)
    return _list_in_words(parts)


def _list_in_words(parts: list[str]) -> str:
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _duration_in_words(interval: datetime.timedelta) -> str:
    seconds = int(interval.total_seconds())
    parts = []
    for unit, size in (("hour", 3600), ("minute", 60), ("second", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}{'s' if count > 1 else ''}")
    return _list_in_words(parts)
