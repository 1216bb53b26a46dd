"""Ordinary questions about the appraisal office's database, as analysts write them: all of them must pass the gate.

``{month:x}``, ``{year:x}``, ``{days:a,b}`` and ``{back:x}`` are written as each dialect writes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from roadbed.sources.catalogue import SqlDialect

TABLES: dict[str, dict[str, str]] = {
    "parcels": {
        "id": "integer", "municipality": "text", "district": "text", "address": "text", "cadastral_number": "text", "property_type": "text",
        "year_built": "integer", "living_area_m2": "integer", "plot_m2": "integer", "condition_grade": "integer", "has_garage": "boolean", "energy_rating": "text",
    },
    "sales": {
        "id": "integer", "parcel_id": "integer", "address": "text", "municipality": "text", "property_type": "text", "sold_on": "date", "registered_on": "date",
        "sale_kind": "text", "price_nok": "integer", "living_area_m2": "integer", "condition_grade": "integer", "days_on_market": "integer",
    },
    "appraisals": {
        "id": "text", "parcel_id": "integer", "municipality": "text", "property_type": "text", "purpose": "text", "client_kind": "text", "status": "text", "ordered_on": "date",
        "delivered_on": "date", "appraiser": "text", "reviewer": "text", "fee_nok": "integer", "value_nok": "integer",
    },
    "comparables": {"appraisal_id": "text", "sale_id": "integer", "distance_km": "double precision", "adjusted_price_nok": "integer", "weight_percent": "double precision"},
}  # fmt: skip

SHARED: tuple[str, ...] = (
    "SELECT COUNT(*) FROM sales",
    "SELECT * FROM parcels WHERE id = 7",
    "SELECT s.* FROM sales s ORDER BY s.id LIMIT 5",
    "SELECT DISTINCT municipality FROM parcels ORDER BY municipality",
    "SELECT municipality, COUNT(*) AS n FROM sales GROUP BY municipality ORDER BY n DESC, municipality",
    "SELECT municipality, AVG(price_nok) AS mean_price FROM sales WHERE sale_kind = 'open market' GROUP BY 1 ORDER BY 2 DESC, 1",
    "SELECT property_type, MIN(price_nok), MAX(price_nok), ROUND(AVG(price_nok), 0) FROM sales GROUP BY property_type ORDER BY 1",
    "SELECT {month:sold_on} AS month, COUNT(*) AS n FROM sales GROUP BY {month:sold_on} ORDER BY month",
    "SELECT {month:sold_on} AS month, SUM(price_nok) AS total FROM sales GROUP BY month ORDER BY month",
    "SELECT {year:sold_on} AS y, property_type, COUNT(*) FROM sales GROUP BY 1, 2 ORDER BY 1, 2",
    "SELECT id, price_nok / living_area_m2 AS per_m2 FROM sales WHERE living_area_m2 > 0 ORDER BY per_m2 DESC, id LIMIT 10",
    "SELECT id, price_nok * 1.0 / NULLIF(living_area_m2, 0) AS per_m2 FROM sales ORDER BY id",
    "SELECT COUNT(*) FROM sales WHERE sold_on >= '2024-01-01' AND sold_on < '2024-07-01'",
    "SELECT COUNT(*) FROM sales WHERE sold_on BETWEEN '2024-01-01' AND '2024-12-31'",
    "SELECT COUNT(*) FROM sales WHERE municipality IN ('Fjordby', 'Skogvik')",
    "SELECT COUNT(*) FROM sales WHERE municipality NOT IN ('Fjordby') AND NOT (price_nok < 1000000)",
    "SELECT address FROM parcels WHERE address LIKE '%gate%' ORDER BY 1",
    "SELECT address FROM parcels WHERE LOWER(address) LIKE 'street 1%' ORDER BY 1",
    "SELECT address FROM parcels WHERE energy_rating IS NULL OR energy_rating <> 'G' ORDER BY address",
    "SELECT p.address, s.price_nok FROM parcels p JOIN sales s ON s.parcel_id = p.id ORDER BY s.price_nok DESC, s.id LIMIT 3",
    "SELECT p.address, s.sold_on FROM parcels AS p LEFT JOIN sales AS s ON s.parcel_id = p.id WHERE s.id IS NULL ORDER BY p.id",
    "SELECT p.district, COUNT(s.id) AS n FROM parcels p LEFT OUTER JOIN sales s ON s.parcel_id = p.id GROUP BY p.district ORDER BY p.district",
    "SELECT p.municipality, AVG(s.price_nok) FROM parcels p INNER JOIN sales s ON p.id = s.parcel_id AND s.sale_kind = 'open market' GROUP BY p.municipality HAVING COUNT(*) >= 3 ORDER BY 1",
    "SELECT a.id, p.address FROM appraisals a, parcels p WHERE a.parcel_id = p.id ORDER BY a.id",
    "SELECT a.appraiser, COUNT(*) AS delivered FROM appraisals a WHERE a.status = 'delivered' GROUP BY a.appraiser ORDER BY delivered DESC, a.appraiser",
    "SELECT a.appraiser, SUM(a.fee_nok) AS fees FROM appraisals a GROUP BY a.appraiser HAVING SUM(a.fee_nok) > 10000 ORDER BY fees DESC, 1",
    "SELECT status, COUNT(*) * 100.0 / (SELECT COUNT(*) FROM appraisals) AS share FROM appraisals GROUP BY status ORDER BY status",
    "SELECT AVG({days:delivered_on,ordered_on}) FROM appraisals WHERE delivered_on IS NOT NULL",
    "SELECT appraiser, AVG({days:delivered_on,ordered_on}) AS days FROM appraisals WHERE status = 'delivered' GROUP BY appraiser ORDER BY days, appraiser",
    "SELECT id FROM appraisals WHERE delivered_on IS NULL AND ordered_on < {back:90} ORDER BY id",
    "SELECT COUNT(*) FROM sales WHERE sold_on >= {back:365}",
    "SELECT id, CASE WHEN price_nok < 2000000 THEN 'low' WHEN price_nok < 5000000 THEN 'middle' ELSE 'high' END AS band FROM sales ORDER BY id",
    "SELECT CASE WHEN price_nok < 3000000 THEN 'low' ELSE 'high' END AS band, COUNT(*) FROM sales GROUP BY band ORDER BY band",
    "SELECT SUM(CASE WHEN sale_kind = 'forced sale' THEN 1 ELSE 0 END) AS forced, COUNT(*) AS n FROM sales",
    "SELECT municipality, SUM(CASE WHEN property_type = 'apartment' THEN price_nok END) AS apartments FROM sales GROUP BY municipality ORDER BY municipality",
    "SELECT COALESCE(delivered_on, ordered_on) AS d FROM appraisals ORDER BY d, id",
    "SELECT municipality FROM sales WHERE price_nok = (SELECT MAX(price_nok) FROM sales) ORDER BY 1",
    "SELECT id FROM sales WHERE price_nok > (SELECT AVG(price_nok) FROM sales) ORDER BY id",
    "SELECT s.id FROM sales s WHERE s.price_nok > (SELECT AVG(t.price_nok) FROM sales t WHERE t.municipality = s.municipality) ORDER BY s.id",
    "SELECT id FROM parcels WHERE id IN (SELECT parcel_id FROM sales) ORDER BY id",
    "SELECT id FROM parcels WHERE id NOT IN (SELECT parcel_id FROM sales WHERE parcel_id IS NOT NULL) ORDER BY id",
    "SELECT p.id FROM parcels p WHERE EXISTS (SELECT 1 FROM sales s WHERE s.parcel_id = p.id) ORDER BY p.id",
    "SELECT p.id FROM parcels p WHERE NOT EXISTS (SELECT * FROM sales s WHERE s.parcel_id = p.id) ORDER BY p.id",
    "SELECT parcel_id FROM sales GROUP BY parcel_id HAVING COUNT(*) > 1 ORDER BY parcel_id",
    "SELECT COUNT(DISTINCT parcel_id) AS parcels, COUNT(DISTINCT municipality) AS places FROM sales",
    "WITH totals AS (SELECT municipality, SUM(price_nok) AS total FROM sales GROUP BY municipality) SELECT municipality, total FROM totals ORDER BY total DESC, municipality",
    "WITH m AS (SELECT {month:sold_on} AS month, SUM(price_nok) AS total FROM sales GROUP BY 1) SELECT month, total, LAG(total) OVER (ORDER BY month) AS before FROM m ORDER BY month",
    "WITH m AS (SELECT {month:sold_on} AS month, SUM(price_nok) AS total FROM sales GROUP BY 1), g AS (SELECT month, total - LAG(total) OVER (ORDER BY month) AS growth FROM m) SELECT * FROM g WHERE growth > 0 ORDER BY month",
    "WITH ranked AS (SELECT id, municipality, price_nok, ROW_NUMBER() OVER (PARTITION BY municipality ORDER BY price_nok DESC, id) AS n FROM sales) SELECT municipality, id, price_nok FROM ranked WHERE n <= 3 ORDER BY municipality, n",
    "SELECT * FROM (SELECT id, RANK() OVER (ORDER BY price_nok DESC) AS r FROM sales) q WHERE r <= 5 ORDER BY r, id",
    "SELECT id, price_nok, SUM(price_nok) OVER (ORDER BY sold_on, id) AS running FROM sales ORDER BY sold_on, id",
    "SELECT id, AVG(price_nok) OVER (ORDER BY sold_on, id ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS moving FROM sales ORDER BY id",
    "SELECT id, price_nok - AVG(price_nok) OVER (PARTITION BY municipality) AS difference FROM sales ORDER BY id",
    "SELECT id, DENSE_RANK() OVER (PARTITION BY property_type ORDER BY price_nok) AS d, NTILE(4) OVER (ORDER BY price_nok, id) AS quarter FROM sales ORDER BY id",
    "SELECT id, FIRST_VALUE(id) OVER (PARTITION BY municipality ORDER BY sold_on, id) AS first_sale FROM sales ORDER BY id",
    "SELECT municipality, COUNT(*) AS n, COUNT(*) * 1.0 / SUM(COUNT(*)) OVER () AS share FROM sales GROUP BY municipality ORDER BY municipality",
    "SELECT municipality FROM parcels UNION SELECT municipality FROM sales ORDER BY municipality",
    "SELECT 'sale' AS what, COUNT(*) AS n FROM sales UNION ALL SELECT 'appraisal', COUNT(*) FROM appraisals ORDER BY what",
    "SELECT parcel_id FROM sales INTERSECT SELECT parcel_id FROM appraisals ORDER BY 1",
    "SELECT id FROM parcels EXCEPT SELECT parcel_id FROM sales ORDER BY id",
    "SELECT AVG(n) FROM (SELECT COUNT(*) AS n FROM sales GROUP BY parcel_id) AS counts",
    "SELECT q.municipality, q.total FROM (SELECT municipality, SUM(price_nok) AS total FROM sales GROUP BY municipality) q WHERE q.total > 1000 ORDER BY q.municipality",
    "SELECT a.id, COUNT(c.sale_id) AS comparables, AVG(c.adjusted_price_nok) AS mean FROM appraisals a LEFT JOIN comparables c ON c.appraisal_id = a.id GROUP BY a.id ORDER BY a.id",
    "SELECT a.id, SUM(c.adjusted_price_nok * c.weight_percent) / SUM(c.weight_percent) AS weighted FROM appraisals a JOIN comparables c ON c.appraisal_id = a.id GROUP BY a.id ORDER BY a.id",
    "SELECT a.id, s.address, c.distance_km FROM appraisals a JOIN comparables c ON c.appraisal_id = a.id JOIN sales s ON s.id = c.sale_id WHERE c.distance_km < 2 ORDER BY a.id, c.distance_km, s.id",
    "SELECT a.appraiser, a.reviewer, COUNT(*) FROM appraisals a GROUP BY a.appraiser, a.reviewer ORDER BY 1, 2",
    "SELECT a1.id, a2.id FROM appraisals a1 JOIN appraisals a2 ON a1.parcel_id = a2.parcel_id AND a1.id < a2.id ORDER BY 1, 2",
    "SELECT id, municipality FROM sales WHERE (municipality = 'Fjordby' OR municipality = 'Skogvik') AND price_nok >= 1e6 ORDER BY id",
    "SELECT id, ABS(price_nok - 3000000) AS distance FROM sales ORDER BY distance, id LIMIT 1",
    "SELECT id FROM sales ORDER BY price_nok DESC, id ASC LIMIT 5 OFFSET 5",
    "SELECT ROUND(AVG(days_on_market), 1) AS days, municipality FROM sales GROUP BY municipality ORDER BY days DESC, municipality",
    "SELECT UPPER(municipality) AS name, LENGTH(address) AS n FROM sales ORDER BY id",
    "SELECT address || ', ' || municipality AS place FROM parcels ORDER BY id",
    "SELECT TRIM(address) FROM parcels ORDER BY id",
    "SELECT SUBSTR(address, 1, 6) AS street, COUNT(*) FROM parcels GROUP BY street ORDER BY street",
    "SELECT REPLACE(address, 'Street', 'St.') FROM parcels ORDER BY id LIMIT 3",
    "SELECT CAST(price_nok AS DECIMAL(12, 2)) FROM sales ORDER BY id LIMIT 2",
    "SELECT energy_rating, COUNT(*) FROM parcels WHERE year_built BETWEEN 1950 AND 1999 GROUP BY energy_rating ORDER BY energy_rating",
    "SELECT (year_built / 10) * 10 AS decade, COUNT(*) AS n FROM parcels GROUP BY decade ORDER BY decade",
    "SELECT id % 2 AS is_odd, COUNT(*) FROM parcels GROUP BY id % 2 ORDER BY 1",
    "SELECT MAX(price_nok) - MIN(price_nok) AS spread FROM sales WHERE municipality = 'Fjordby'",
    "SELECT id, price_nok FROM sales WHERE price_nok > 1000000 AND price_nok < 9000000 AND condition_grade <> 1 ORDER BY price_nok, id",
    "SELECT purpose, client_kind, COUNT(*) AS n FROM appraisals GROUP BY purpose, client_kind HAVING COUNT(*) > 1 ORDER BY n DESC, purpose, client_kind",
    "SELECT COUNT(*) AS total, COUNT(delivered_on) AS delivered FROM appraisals",
    "SELECT s.municipality, MAX(s.price_nok) AS top FROM sales s WHERE s.property_type = 'apartment' GROUP BY s.municipality HAVING MAX(s.price_nok) > 1000 ORDER BY top DESC, 1",
    "WITH a AS (SELECT parcel_id, MAX(sold_on) AS last_sale FROM sales GROUP BY parcel_id) SELECT p.address, a.last_sale FROM parcels p JOIN a ON a.parcel_id = p.id ORDER BY a.last_sale DESC, p.id LIMIT 4",
    "WITH firsts AS (SELECT parcel_id, MIN(id) AS id FROM sales GROUP BY parcel_id) SELECT s.id, s.price_nok FROM sales s JOIN firsts f ON f.id = s.id ORDER BY s.id",
    "WITH RECURSIVE months (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM months WHERE n < 12) SELECT n FROM months ORDER BY n",
    "SELECT id FROM sales WHERE municipality = 'O''Brien'",
    "SELECT -1 * MIN(price_nok) FROM sales",
    "SELECT p.municipality, (SELECT COUNT(*) FROM sales s WHERE s.municipality = p.municipality) AS n FROM (SELECT DISTINCT municipality FROM parcels) p ORDER BY p.municipality",
    "SELECT parcels.id, sales.id FROM parcels JOIN sales ON parcels.id = sales.parcel_id ORDER BY parcels.id, sales.id",
    "SELECT municipality, property_type FROM parcels GROUP BY municipality, property_type ORDER BY municipality, property_type",
    "SELECT t.municipality, COUNT(*) FROM (SELECT municipality FROM sales UNION ALL SELECT municipality FROM parcels) t GROUP BY t.municipality ORDER BY 1",
    "SELECT id FROM sales WHERE registered_on > sold_on AND {days:registered_on,sold_on} > 5 ORDER BY id",
    "SELECT LOWER(status) AS s FROM appraisals GROUP BY LOWER(status) ORDER BY s",
    "SELECT municipality, COUNT(*) n FROM sales WHERE sale_kind IN ('open market', 'forced sale') GROUP BY municipality ORDER BY n DESC, municipality LIMIT 1",
    "SELECT id FROM parcels WHERE living_area_m2 * 2 + 10 > plot_m2 - 5 ORDER BY id",
    "SELECT MIN(sold_on), MAX(sold_on) FROM sales",
    "SELECT sales.municipality AS m, AVG(sales.price_nok) AS p FROM sales JOIN parcels USING (municipality) GROUP BY sales.municipality ORDER BY m",
    "SELECT municipality, COUNT(*) FROM sales JOIN (SELECT DISTINCT municipality FROM parcels) q USING (municipality) GROUP BY municipality ORDER BY municipality",
    "SELECT appraiser AS name, 'appraiser' AS role FROM appraisals UNION SELECT reviewer, 'reviewer' FROM appraisals ORDER BY name, role",
    "SELECT STATUS, Count(*) AS N FROM Appraisals GROUP BY Status ORDER BY n, status",
)  # fmt: skip

OWN: dict[SqlDialect, tuple[str, ...]] = {
    "postgres": (
        "SELECT date_trunc('month', sold_on) AS m, count(*) FROM sales GROUP BY 1 ORDER BY 1",
        "SELECT date_trunc('quarter', sold_on)::date AS q, avg(price_nok)::numeric(12, 2) FROM sales GROUP BY q ORDER BY q",
        "SELECT extract(year FROM sold_on) AS y, count(*) FROM sales GROUP BY y ORDER BY y",
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY price_nok) FROM sales",
        "SELECT count(*) FILTER (WHERE sale_kind = 'forced sale') AS forced, count(*) FROM sales",
        "SELECT DISTINCT ON (municipality) municipality, id FROM sales ORDER BY municipality, price_nok DESC, id",
        "SELECT string_agg(id::text, ', ' ORDER BY id) FROM sales WHERE municipality ILIKE 'fj%'",
        "SELECT array_agg(id ORDER BY id) FROM sales",
        "SELECT d::date, count(s.id) FROM generate_series('2024-01-01'::date, '2024-12-01'::date, interval '1 month') AS d LEFT JOIN sales s ON date_trunc('month', s.sold_on) = d GROUP BY d ORDER BY d",
        "SELECT g, count(*) FROM generate_series(1, 5) g JOIN parcels p ON p.condition_grade = g GROUP BY g ORDER BY g",
        "SELECT municipality, property_type, count(*) FROM sales GROUP BY ROLLUP (municipality, property_type) ORDER BY 1, 2",
        "SELECT id, sold_on + interval '30 days' AS due FROM sales ORDER BY id NULLS LAST",
        "SELECT p.id, q.price_nok FROM parcels p CROSS JOIN LATERAL (SELECT s.price_nok FROM sales s WHERE s.parcel_id = p.id ORDER BY s.sold_on DESC, s.id LIMIT 1) q ORDER BY p.id",
        "SELECT id FROM parcels WHERE address ~ '^Street [0-9]+$' ORDER BY id",
        "SELECT round(stddev(price_nok), 2), corr(price_nok, living_area_m2) FROM sales",
        "SELECT id FROM public.sales WHERE sold_on > now() - interval '100 years' ORDER BY id",
        "SELECT unnest(ARRAY[1, 2, 3]) AS n ORDER BY n",
        "SELECT v.label, v.low FROM (VALUES ('a', 1), ('b', 2)) AS v(label, low) ORDER BY v.low",
        "SELECT split_part(address, ' ', 1), left(address, 3), concat(address, '/', id) FROM parcels ORDER BY id",
        "SELECT id FROM sales WHERE municipality = ANY (ARRAY['Fjordby', 'Skogvik']) ORDER BY id FETCH FIRST 3 ROWS ONLY",
    ),
    "mysql": (
        "SELECT DATE_FORMAT(sold_on, '%Y-%m') AS m, COUNT(*) FROM sales GROUP BY m ORDER BY m",
        "SELECT YEAR(sold_on) AS y, MONTH(sold_on) AS m, COUNT(*) FROM sales GROUP BY YEAR(sold_on), MONTH(sold_on) ORDER BY y, m",
        "SELECT `municipality`, COUNT(*) FROM `sales` GROUP BY `municipality`",
        "SELECT GROUP_CONCAT(DISTINCT municipality ORDER BY municipality SEPARATOR ', ') FROM sales",
        "SELECT IF(price_nok > 3000000, 'high', 'low') AS band, COUNT(*) FROM sales GROUP BY band",
        "SELECT IFNULL(delivered_on, ordered_on) FROM appraisals",
        "SELECT COUNT(*) FROM sales WHERE sold_on >= DATE_SUB(CURDATE(), INTERVAL 3 MONTH)",
        "SELECT CONCAT(address, ', ', municipality) FROM parcels",
        "SELECT id FROM sales ORDER BY id LIMIT 5, 10",
        "SELECT DATEDIFF(delivered_on, ordered_on) AS days FROM appraisals",
        "SELECT TIMESTAMPDIFF(DAY, ordered_on, delivered_on) FROM appraisals",
        "SELECT QUARTER(sold_on), WEEK(sold_on), DAYNAME(sold_on), LAST_DAY(sold_on) FROM sales",
        "SELECT municipality, COUNT(*) FROM sales GROUP BY municipality WITH ROLLUP",
        "SELECT STDDEV(price_nok), VAR_POP(price_nok) FROM sales",
        "SELECT id FROM parcels WHERE address REGEXP '^Street'",
    ),
    "sqlite": (
        "SELECT strftime('%Y', sold_on) AS y, COUNT(*) FROM sales GROUP BY y ORDER BY y",
        "SELECT date(sold_on, 'start of month') AS m, COUNT(*) FROM sales GROUP BY m ORDER BY m",
        "SELECT julianday(delivered_on) - julianday(ordered_on) FROM appraisals ORDER BY id",
        "SELECT group_concat(municipality, '; ') FROM (SELECT DISTINCT municipality FROM sales ORDER BY 1)",
        "SELECT iif(price_nok > 3000000, 'high', 'low') AS band, COUNT(*) FROM sales GROUP BY 1 ORDER BY 1",
        "SELECT total(price_nok), sum(price_nok) FROM sales",
        "SELECT IFNULL(delivered_on, '-') FROM appraisals ORDER BY id",
        "SELECT printf('%.2f', price_nok / 1000.0) FROM sales ORDER BY id",
        "SELECT id FROM parcels WHERE address GLOB 'Street*' ORDER BY id",
        "SELECT id FROM parcels ORDER BY address COLLATE NOCASE, id",
        "SELECT COUNT(*) FROM sales WHERE sold_on >= date('now', '-40 years')",
        "SELECT value FROM json_each('[1, 2, 3]') ORDER BY value",
        "SELECT CAST(strftime('%m', sold_on) AS INTEGER) AS m FROM sales ORDER BY m",
        "SELECT MAX(sold_on), id FROM sales",
        "SELECT instr(address, ' '), substr(address, 2) FROM parcels ORDER BY id",
    ),
    "duckdb": (
        "SELECT date_trunc('month', sold_on) AS m, count(*) FROM sales GROUP BY ALL ORDER BY ALL",
        "SELECT municipality, median(price_nok), quantile_cont(price_nok, 0.9) FROM sales GROUP BY 1 ORDER BY 1",
        "SELECT id FROM sales QUALIFY row_number() OVER (PARTITION BY municipality ORDER BY price_nok DESC, id) = 1 ORDER BY id",
        "SELECT * EXCLUDE (address) FROM parcels ORDER BY id",
        "FROM sales ORDER BY id LIMIT 3",
        "SELECT municipality, list(id ORDER BY id) FROM sales GROUP BY 1 ORDER BY 1",
        "SELECT arg_max(id, price_nok) FROM sales",
        "SELECT price_nok AS p, p / 1000 AS thousands FROM sales ORDER BY id",
        "SELECT year(sold_on) AS y, month(sold_on) AS m, count(*) FROM sales GROUP BY y, m ORDER BY y, m",
        "SELECT date_diff('day', ordered_on, delivered_on) FROM appraisals ORDER BY id",
        "SELECT unnest([1, 2, 3]) AS n ORDER BY n",
        "SELECT g.generate_series FROM generate_series(1, 3) g ORDER BY 1",
        "SELECT count(*) FILTER (WHERE sale_kind = 'forced sale') FROM sales",
        "SELECT p.id FROM parcels p SEMI JOIN sales s ON s.parcel_id = p.id ORDER BY p.id",
        "SELECT p.id FROM parcels p ANTI JOIN sales s ON s.parcel_id = p.id ORDER BY p.id",
        "SELECT strftime(sold_on, '%Y') AS y, sum(price_nok) FROM sales GROUP BY y HAVING y > '2000' ORDER BY y",
        "SELECT list_transform([1, 2], lambda x: x + 1) AS l",
    ),
}  # fmt: skip

_FORMS: dict[SqlDialect, dict[str, str]] = {
    "postgres": {"month": "to_char({}, 'YYYY-MM')", "year": "extract(year from {})", "days": "({} - {})", "back": "CURRENT_DATE - interval '{} days'"},
    "mysql": {"month": "DATE_FORMAT({}, '%Y-%m')", "year": "YEAR({})", "days": "DATEDIFF({}, {})", "back": "CURDATE() - INTERVAL {} DAY"},
    "sqlite": {"month": "strftime('%Y-%m', {})", "year": "strftime('%Y', {})", "days": "(julianday({}) - julianday({}))", "back": "date('now', '-{} days')"},
    "duckdb": {"month": "strftime({}, '%Y-%m')", "year": "year({})", "days": "({} - {})", "back": "current_date - interval {} day"},
}  # fmt: skip


def questions(dialect: SqlDialect) -> Iterator[str]:
    """The dialect's queries."""
    forms = _FORMS[dialect]
    for text in (*SHARED, *OWN[dialect]):
        text = re.sub(
            r"\{(\w+):([^}]*)\}", lambda match: forms[match[1]].format(*match[2].split(",")), text
        )
        if dialect == "mysql":
            text = re.sub(r"(\w+) \|\| ', ' \|\| (\w+)", r"CONCAT(\1, ', ', \2)", text)
        yield text


def script() -> Iterator[str]:
    """Statements that make and fill the tables, in a form that every engine here takes."""
    for table, columns in TABLES.items():
        yield f"CREATE TABLE {table} ({', '.join(f'{name} {kind}' for name, kind in columns.items())})"
    places, kinds = ("Fjordby", "Skogvik", "Nes"), ("apartment", "row house", "detached house")
    for n in range(1, 25):
        place, kind = places[n % 3], kinds[n % 2]
        yield (
            f"INSERT INTO parcels VALUES ({n}, '{place}', 'D{n % 4}', 'Street {n}', '{n}/{n}', '{kind}', {1930 + n * 3}, {50 + n}, {n * 40}, "
            f"{1 + n % 5}, {'true' if n % 2 else 'false'}, '{'ABCDEFG'[n % 7]}')"
        )
    for n in range(1, 41):
        place, kind = places[n % 3], kinds[n % 2]
        yield (
            f"INSERT INTO sales VALUES ({n}, {1 + n * 7 % 20}, 'Street {1 + n * 7 % 20}', '{place}', '{kind}', '202{n % 5}-{1 + n % 12:02}-{1 + n % 28:02}', "
            f"'202{n % 5}-{1 + n % 12:02}-28', '{('open market', 'forced sale')[n % 5 == 0]}', {1_000_000 + n * 150_000}, {40 + n}, {1 + n % 5}, {n % 60})"
        )
    for n in range(1, 21):
        delivered = "NULL" if n % 4 == 0 else f"'2024-{1 + n % 12:02}-25'"
        yield (
            f"INSERT INTO appraisals VALUES ('A-2024-{n:04}', {n}, '{places[n % 3]}', '{kinds[n % 2]}', 'loan', '{('bank', 'private')[n % 2]}', "
            f"'{'delivered' if n % 4 else 'ordered'}', '2024-{1 + n % 12:02}-05', {delivered}, 'P{n % 3}', 'R{n % 2}', {3000 + n * 100}, {n * 100_000})"
        )
        yield f"INSERT INTO comparables VALUES ('A-2024-{n:04}', {n}, {n % 7 / 2}, {n * 90_000}, {10.0 + n})"
