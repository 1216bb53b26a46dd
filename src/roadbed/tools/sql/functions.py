"""Functions by list: those that the parser knows by their class, and the rest by their names per dialect.

All of them compute a value from their arguments alone: none reads a file, a setting, a catalogue or a clock other than
the current date and time, takes SQL text, waits, locks or counts up. Those whose result grows with a number take that
number as a bounded literal.
"""

from __future__ import annotations

import re

from sqlglot import exp

from roadbed.sources.catalogue import SqlDialect
from roadbed.tools.sql.errors import SqlRefused

SERIES_ROWS_MAX = 10_000
REPEAT_MAX = 1_000
YEARS_MAX = 200
INTERVALS_MAX = 4


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


CLASSES: frozenset[str] = _words("""
    Count Sum Avg Min Max AnyValue ArgMax ArgMin ArrayAgg GroupConcat Stddev StddevPop StddevSamp Variance
    VariancePop CovarPop CovarSamp Corr Median Mode PercentileCont PercentileDisc Quantile ApproxQuantile
    ApproxDistinct CountIf LogicalAnd LogicalOr BitwiseAndAgg BitwiseOrAgg BitwiseXorAgg First Last FirstValue
    LastValue NthValue Lag Lead RowNumber Rank DenseRank PercentRank CumeDist Ntile Grouping GroupingId Kurtosis
    Skewness RegrSlope RegrIntercept RegrR2 RegrCount RegrAvgx RegrAvgy RegrSxx RegrSxy RegrSyy Abs Acos Asin
    Atan Atan2 Cos Sin Tan Cot Cbrt Ceil Floor Round Trunc Exp Ln Log Sqrt Sign Pi Radians Degrees Pow Factorial
    IsNan IsInf Rand Greatest Least Coalesce Nullif If Case WidthBucket BitwiseCount Ascii Chr Concat ConcatWs
    Contains StartsWith EndsWith Initcap Left Right Length ByteLength BitLength Lower Upper Levenshtein Overlay
    Pad Repeat Replace Reverse Space Split SplitPart StrPosition Substring SubstringIndex Translate Trim Unicode
    RegexpCount RegexpExtract RegexpExtractAll RegexpFullMatch RegexpInstr RegexpReplace RegexpSplit
    RegexpSubstr RegexpLike RegexpILike MD5 SHA SHA2 Hex LowerHex Soundex Elt ToChar ToNumber NumberToStr Format
    CurrentDate CurrentDatetime CurrentTime CurrentTimestamp CurrentTimestampLTZ Localtime Localtimestamp
    UtcDate UtcTime UtcTimestamp Date DateAdd DateBin DateDiff DateFromParts DateStrToDate DateSub DateToDateStr
    DateTrunc Datetime DatetimeAdd DatetimeDiff DatetimeSub DatetimeTrunc Day DayOfMonth DayOfWeek DayOfWeekIso
    DayOfYear Dayname Extract Hour JustifyDays JustifyHours JustifyInterval LastDay MakeInterval Minute Month
    Monthname MonthsBetween Quarter Second StrToDate StrToTime StrToUnix Time TimeAdd TimeDiff TimeFromParts
    TimeStrToDate TimeStrToTime TimeStrToUnix TimeSub TimeToStr TimeToUnix TimeTrunc Timestamp TimestampAdd
    TimestampDiff TimestampFromParts TimestampSub TimestampTrunc ToDays TsOrDsAdd TsOrDsDiff TsOrDsToDate
    TsOrDsToDateStr TsOrDsToDatetime TsOrDsToTime TsOrDsToTimestamp TsOrDiToDi UnixToTime UnixToStr UnixSeconds
    UnixMillis Week WeekOfYear Year YearOfWeek YearOfWeekIso Array ArrayContains ArrayContainsAll
    ArrayContainedBy ArrayConcat ArrayDistinct ArrayFilter ArrayFirst ArrayLast ArrayMax ArrayMin ArrayOverlaps
    ArrayPosition ArrayReverse ArraySize ArraySlice ArraySort ArraySum ArrayToString StringToArray Struct
    StructExtract Transform Explode Unnest GenerateSeries ExplodingGenerateSeries List JSONArray JSONArrayAgg
    JSONArrayContains JSONBContains JSONBContainsAllTopKeys JSONBContainsAnyTopKeys JSONBContainsTopKey
    JSONBExists JSONBExtract JSONBExtractScalar JSONBObjectAgg JSONExists JSONExtract JSONExtractScalar JSONKeys
    JSONObject JSONObjectAgg JSONType JSONBool ParseJSON
    """)

_SHARED = """
    age date time datetime julianday unixepoch timediff strftime total instr hex unicode char quote typeof
    ltrim rtrim abs round sign nullif ifnull iif min max isnull
"""
NAMES: dict[SqlDialect, frozenset[str]] = {
    "sqlite": _words(
        _SHARED + " json json_array json_array_length json_extract json_object json_type json_valid json_group_array"
        " json_group_object json_quote printf format  acosh asinh atanh cosh sinh tanh log10 log2"
        " ceiling mod power degrees radians median percentile percentile_cont percentile_disc group_concat string_agg"
        " octet_length concat concat_ws soundex substr trunc"
    ),
    "postgres": _words("""
    age justify_days justify_hours date_part isfinite make_date make_time make_timestamp make_timestamptz
    to_date to_timestamp to_number clock_timestamp statement_timestamp transaction_timestamp btrim strpos
    quote_literal quote_nullable octet_length char_length character_length bit_length left right regexp_match
    regexp_matches regexp_split_to_array regexp_split_to_table regexp_count regexp_like regexp_substr
    string_to_table num_nonnulls num_nulls div gcd lcm log10 scale min_scale trim_scale numeric_inc cosd sind
    tand cosh sinh tanh acosh asinh atanh array_length array_ndims array_lower array_upper array_position
    array_positions array_remove array_replace array_append array_prepend array_cat cardinality every bool_and
    bool_or bit_and bit_or mode jsonb_agg json_agg jsonb_object_agg json_object_agg jsonb_build_object
    json_build_object jsonb_build_array json_build_array jsonb_array_length json_array_length jsonb_typeof
    json_typeof jsonb_extract_path jsonb_extract_path_text json_extract_path json_extract_path_text
    jsonb_strip_nulls json_strip_nulls jsonb_pretty to_json to_jsonb jsonb_path_query_first jsonb_path_exists
    jsonb_array_elements jsonb_array_elements_text json_array_elements json_array_elements_text jsonb_each
    jsonb_each_text json_each json_each_text jsonb_object_keys json_object_keys to_tsvector to_tsquery
    plainto_tsquery phraseto_tsquery websearch_to_tsquery ts_rank ts_rank_cd ts_headline lower_inf upper_inf
    isempty range_merge daterange tsrange tstzrange int4range int8range numrange date_add date_subtract
    similarity word_similarity unaccent starts_with normalize erf random_normal pg_typeof
    """),
    "mysql": _words("""
    adddate addtime unix_timestamp from_unixtime utc_timestamp subdate subtime period_add period_diff makedate
    maketime microsecond sec_to_time time_to_sec
    timediff timestamp weekday yearweek convert_tz from_days to_seconds get_format char_length character_length
    octet_length bit_length field find_in_set insert instr locate mid position strcmp make_set export_set oct
    bin ord quote conv crc32 rand truncate std log2 log10 ifnull isnull interval mod json_array json_arrayagg
    json_contains json_contains_path json_depth json_extract json_keys json_length json_object json_objectagg
    json_overlaps json_pretty json_quote json_search json_type json_unquote json_valid json_value bit_and bit_or
    bit_xor any_value inet_aton inet_ntoa regexp_instr regexp_like regexp_replace regexp_substr date time
    """),
    "duckdb": _words("""
    age date_part datepart datesub date_sub datetrunc dayname monthname era century decade millennium
    microsecond millisecond epoch epoch_ms epoch_us epoch_ns isodow isoyear make_date make_time make_timestamp
    strptime try_strptime to_days to_months to_years to_hours to_minutes to_seconds to_weeks to_quarters
    to_centuries to_decades weekday yearweek last_day time_bucket today bar printf format instr strlen
    strip_accents nfc_normalize prefix suffix contains regexp_matches regexp_full_match regexp_split_to_array
    string_split string_split_regex str_split damerau_levenshtein hamming jaccard jaro_similarity
    jaro_winkler_similarity editdist3 list_avg list_sum list_min list_max list_count list_contains list_has
    list_distinct list_unique list_sort list_reverse_sort list_slice list_extract list_element list_concat
    list_append list_prepend list_position list_filter list_transform list_value list_zip list_any_value
    list_median list_mode list_first list_last list_string_agg array_length len array_extract array_unique
    flatten struct_extract struct_pack map map_extract map_keys map_values map_entries element_at cardinality
    mad entropy favg fsum kahan_sum sumkahan geometric_mean geomean product histogram arg_min arg_max argmin
    argmax min_by max_by bool_and bool_or bit_and bit_or approx_quantile quantile_cont quantile_disc sem
    skewness kurtosis kurtosis_pop reservoir_quantile approx_count_distinct divide fdiv fmod gcd
    greatest_common_divisor lcm even gamma lgamma nextafter isfinite signbit xor add subtract multiply
    json_extract json_extract_string json_extract_path json_extract_path_text json_type json_keys
    json_array_length json_valid json_structure json_contains json_object json_array json_group_array
    json_group_object to_json json_value json_exists typeof ifnull hash md5 struct_insert row unnest range
    generate_series strftime date time ceiling log10 log2 list array_agg string_agg group_concat listagg
    count_star
    """),
}

# Functions that give rows: the columns that they give. Without a row of their own here they cannot stand in FROM.
TABLE_FUNCTIONS: dict[str, tuple[str, ...]] = {
    "json_each": ("key", "value", "type", "atom", "id", "parent", "fullkey", "path"),
    "json_tree": ("key", "value", "type", "atom", "id", "parent", "fullkey", "path"),
    "jsonb_each": ("key", "value"),
    "jsonb_each_text": ("key", "value"),
    "json_each_text": ("key", "value"),
    "jsonb_array_elements": ("value",),
    "jsonb_array_elements_text": ("value",),
    "json_array_elements": ("value",),
    "json_array_elements_text": ("value",),
    "jsonb_object_keys": ("jsonb_object_keys",),
    "json_object_keys": ("json_object_keys",),
    "regexp_split_to_table": ("regexp_split_to_table",),
    "regexp_matches": ("regexp_matches",),
    "string_to_table": ("string_to_table",),
}
_ONLY_IN_FROM: dict[SqlDialect, frozenset[str]] = {
    "sqlite": frozenset({"json_each", "json_tree"}),
    "postgres": frozenset(),
    "mysql": frozenset(),
    "duckdb": frozenset(),
}

_PLAIN_NAME = re.compile(r"[a-z][a-z0-9_]*")
_WIDTH = re.compile(r"[0-9]{4,}|\*")
_FORMATTERS = frozenset({"printf", "format"})
_CHECKED = (
    exp.Anonymous,
    exp.GenerateSeries,
    exp.ExplodingGenerateSeries,
    exp.Repeat,
    exp.Space,
    exp.Pad,
    exp.Format,
)
_GROWING = (exp.Repeat, exp.Space, exp.Pad)


def is_listed(kind: type[exp.Expr]) -> bool:
    """Whether the class is that of a function that the parser knows and the list names."""
    return issubclass(kind, exp.Func) and kind.__name__ in CLASSES


def has_check(kind: type[exp.Expr]) -> bool:
    """Whether calls of this class are looked at by `check_call`."""
    return issubclass(kind, _CHECKED)


def name_of(node: exp.Func) -> str:
    """The function's name as it was meant, for a message."""
    if isinstance(node, exp.Anonymous):
        return str(node.name).lower()[:64]
    return node.sql_name().lower()


def check_call(node: exp.Expr, dialect: SqlDialect) -> None:
    """`SqlRefused` unless the function is listed by its plain name, and what it makes is bounded."""
    match node:
        case exp.Anonymous():
            _check_name(node, dialect)
        case exp.GenerateSeries() | exp.ExplodingGenerateSeries():
            _check_series(node)
        case exp.Repeat():
            _check_growth(node, node.args.get("times"))
        case exp.Space():
            _check_growth(node, node.this)
        case exp.Pad():
            _check_growth(node, node.args.get("expression"))
        case exp.Format():
            _check_format(node.this)
        case _:
            pass


def _check_name(node: exp.Anonymous, dialect: SqlDialect) -> None:
    name = node.this
    if isinstance(name, exp.Identifier):
        raise SqlRefused(f"the function {name_of(node)} is quoted", hint="write function names without quotes")
    lowered = str(name).lower()
    if not _PLAIN_NAME.fullmatch(lowered) or not str(name).isascii():
        raise SqlRefused("a function's name is not understood")
    is_table = isinstance(node.parent, exp.Table | exp.Lateral) and lowered in _ONLY_IN_FROM[dialect]
    if lowered not in NAMES[dialect] and not is_table:
        raise SqlRefused(f"the function {lowered} is not allowed in {dialect}")
    if lowered in _FORMATTERS and node.expressions:
        _check_format(node.expressions[0])
    if lowered in ("range", "generate_series"):
        raise SqlRefused(f"{lowered} takes two or three whole numbers")
    node.set("this", lowered)


def _check_format(pattern: exp.Expr | None) -> None:
    if not isinstance(pattern, exp.Literal) or _WIDTH.search(pattern.name):
        raise SqlRefused("a format must be a string with widths below 1000")


def _check_growth(node: exp.Func, count: exp.Expr | None) -> None:
    """Each of them alone is bounded; inside of each other what they make is multiplied."""
    _check_count(count, name_of(node))
    parent = node.parent
    while parent is not None and not isinstance(parent, exp.Query):
        if isinstance(parent, _GROWING):
            raise SqlRefused(f"{name_of(node)} inside of {name_of(parent)} is not allowed")
        parent = parent.parent


def _check_count(count: exp.Expr | None, name: str) -> None:
    if not isinstance(count, exp.Literal) or not count.is_int or int(count.name) > REPEAT_MAX:
        raise SqlRefused(f"{name} needs a whole number up to {REPEAT_MAX} as its length")


def _check_series(node: exp.Expr) -> None:
    """Numbers: at most `SERIES_ROWS_MAX` of them. Times: between bounded dates, in steps of an hour or more."""
    start, end, step = node.args.get("start"), node.args.get("end"), node.args.get("step")
    numbers = [_number(part) for part in (start, end, step or exp.Literal.number(1))]
    if all(number is not None for number in numbers):
        first, last, width = (number or 0 for number in numbers)
        if width == 0 or abs(last - first) / abs(width) > SERIES_ROWS_MAX:
            raise SqlRefused(f"a series has more than {SERIES_ROWS_MAX} rows")
        return
    moves = sum(1 for _ in node.find_all(exp.Interval))
    if moves <= INTERVALS_MAX and _is_bounded_time(start) and _is_bounded_time(end) and _is_step(step):
        return
    raise SqlRefused(
        "a series must run between literals",
        hint="write numbers or dates as bounds, and a step such as INTERVAL '1 day'",
    )


def _number(node: exp.Expr | None) -> int | None:
    if isinstance(node, exp.Neg):
        inner = _number(node.this)
        return None if inner is None else -inner
    return int(node.name) if isinstance(node, exp.Literal) and node.is_int else None


def _is_bounded_time(node: exp.Expr | None) -> bool:
    """A date near ours, the current one or one of the data's own, moved by bounded intervals."""
    match node:
        case exp.Literal():
            return bool(node.is_string and re.match(r"(19|20)\d\d-\d\d-\d\d", node.name))
        case exp.CurrentDate() | exp.CurrentTimestamp() | exp.Localtimestamp() | exp.CurrentDatetime() | exp.Column():
            return True
        case exp.Cast() | exp.Paren() | exp.TimestampTrunc() | exp.DateTrunc() | exp.TsOrDsToDate() | exp.Date():
            return _is_bounded_time(node.this)
        case exp.Min() | exp.Max():
            return _is_bounded_time(node.this)
        case exp.Subquery() if isinstance(node.this, exp.Select) and len(node.this.expressions) == 1:
            return _is_bounded_time(node.this.expressions[0].unalias())
        case exp.Add() | exp.Sub():
            return _is_bounded_time(node.this) and _interval_hours(node.expression) is not None
        case _:
            return False


_UNIT_HOURS = {"HOUR": 1, "DAY": 24, "WEEK": 168, "MONTH": 720, "QUARTER": 2160, "YEAR": 8760}


def _interval_hours(node: exp.Expr | None) -> int | None:
    if isinstance(node, exp.Paren):
        return _interval_hours(node.this)
    if not isinstance(node, exp.Interval) or not isinstance(node.this, exp.Literal):
        return None
    text = f"{node.this.name} {node.args['unit'].name if node.args.get('unit') else ''}".strip()
    match = re.fullmatch(r"(\d{1,4})\s+([A-Za-z]+?)S?", text, re.IGNORECASE)
    hours = int(match[1]) * _UNIT_HOURS.get(match[2].upper(), 0) if match else 0
    return hours if 0 < hours <= YEARS_MAX * 8784 else None


def _is_step(node: exp.Expr | None) -> bool:
    step = node.this if isinstance(node, exp.Cast) else node
    if isinstance(step, exp.Literal) and step.is_string:
        step = exp.Interval(this=step)
    return _interval_hours(step) is not None
