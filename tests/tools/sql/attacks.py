"""What must never pass the gate, as data: forms per dialect, and the positions, spellings and comments they come in.

A function attack is a call that is put into every position of a query; a form attack is a whole statement.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from roadbed.sources.catalogue import SqlDialect

CALLS: dict[SqlDialect, tuple[str, ...]] = {
    "postgres": (
        "pg_read_file('/etc/passwd')", "pg_read_binary_file('/etc/passwd')", "pg_ls_dir('/')", "pg_ls_logdir()",
        "pg_ls_waldir()", "pg_stat_file('x')", "lo_import('/etc/passwd')", "lo_export(1, '/tmp/x')", "lo_get(1)",
        "lo_put(1, 0, 'x')", "lo_create(0)", "lo_unlink(1)", "lo_from_bytea(0, 'x')", "loread(1, 1)", "dblink('x', 'select 1')", "dblink_exec('x')",
        "dblink_connect('x')", "query_to_xml('select 1', true, true, '')", "table_to_xml('pg_authid', true, true, '')",
        "cursor_to_xml('c', 1, true, true, '')", "schema_to_xml('public', true, true, '')", "database_to_xml(true, true, '')",
        "query_to_xmlschema('select 1', true, true, '')", "set_config('role', 'x', false)", "current_setting('data_directory')", "pg_sleep(10)",
        "pg_sleep_for('1 hour')", "pg_sleep_until('2099-01-01')", "pg_advisory_lock(1)", "pg_try_advisory_lock(1)", "pg_advisory_xact_lock(1)", "pg_advisory_unlock_all()",
        "pg_notify('c', 'x')", "pg_terminate_backend(1)", "pg_cancel_backend(1)", "pg_reload_conf()",
        "pg_rotate_logfile()", "pg_logical_emit_message(true, 'a', 'b')", "pg_logical_slot_get_changes('s', null, null)", "pg_export_snapshot()",
        "pg_stat_reset()", "pg_stat_reset_shared('bgwriter')", "txid_current()", "pg_current_xact_id()", "nextval('s')", "setval('s', 1)", "currval('s')", "lastval()",
        "ts_stat('select 1')", "ts_rewrite('a'::tsquery, 'select 1')", "pg_file_write('x', 'y', true)", "pg_create_restore_point('x')", "pg_switch_wal()",
        "pg_get_functiondef(1)", "pg_get_viewdef(1)", "has_table_privilege('pg_authid', 'select')", "to_regclass('pg_authid')", "inet_server_addr()", "version()",
        "pg_read_server_files()", "current_query()", "pg_relation_size('x')", "pg_start_backup('x')", "repeat('x', 1000000000)", "lpad('x', 1000000000)",
        "random_string_from_file('x')", "xpath('/x', 'y')", "xmlparse(document 'x')", "format('%1000000000s', 'x')", "generate_series(1, 1000000000)", "pg_catalog.pg_read_file('x')",
        "pg_catalog.lower('x')", "current_user", "session_user", "current_catalog", "current_role", "user", "current_database()", "current_schema()", "current_schemas(true)",
        "row_to_json(c)", "to_jsonb(c)", "to_json(c.*)", "count(c.*)", "c::text", "(c).ssn", "c.*::text", "hstore(c)", "json_agg(c)", "array_agg(c)", "md5(c::text)",
        "'pg_authid'::regclass", "'x'::regproc", "1::oid", "c.ctid", "c.xmin", "c.tableoid", "ctid", "c.ssn", "ssn", "upper(ssn)", "$1", ":name", "?", "@x",
    ),
    "mysql": (
        "LOAD_FILE('/etc/passwd')", "SLEEP(10)", "BENCHMARK(1000000000, MD5('x'))", "GET_LOCK('x', 10)", "RELEASE_LOCK('x')",
        "RELEASE_ALL_LOCKS()", "IS_FREE_LOCK('x')", "IS_USED_LOCK('x')", "MASTER_POS_WAIT('x', 1)", "SOURCE_POS_WAIT('x', 1)",
        "WAIT_FOR_EXECUTED_GTID_SET('x')", "sys_exec('id')", "sys_eval('id')", "sys_get('x')", "UPDATEXML(1, 'x', 1)",
        "EXTRACTVALUE(1, 'x')", "LAST_INSERT_ID(5)", "LAST_INSERT_ID()", "NEXTVAL(s)", "SETVAL(s, 1)", "UUID()", "UUID_SHORT()", "lib_mysqludf_sys_info()",
        "@@datadir", "@@global.secure_file_priv", "@x", "(@x := 1)", "@x := ssn", "USER()", "CURRENT_USER()", "SESSION_USER()", "SYSTEM_USER()", "DATABASE()", "SCHEMA()", "VERSION()",
        "CONNECTION_ID()", "ROW_COUNT()", "FOUND_ROWS()", "PS_CURRENT_THREAD_ID()", "REPEAT('x', 1000000000)", "SPACE(1000000000)", "LPAD('x', 1000000000, 'y')", "NAME_CONST('a', 1)",
        "mysql.lower('x')", "sys.version_major()", "AES_DECRYPT('x', 'y')", "ENCRYPT('x')", "PASSWORD('x')", "COMPRESS('x')", "UNCOMPRESS('x')", "RANDOM_BYTES(9)", "VALUES(ssn)", "DEFAULT(ssn)",
        "_utf8'x'", "x'41'", "ssn", "c.ssn", "UPPER(ssn)", "?", ":name", "MATCH (name) AGAINST ('x')", "LOAD_FILE(CONCAT('/etc/', 'passwd'))",
    ),
    "sqlite": (
        "load_extension('x')", "load_extension('x', 'y')", "writefile('/tmp/x', 'y')", "readfile('/etc/passwd')", "edit('x')", "fts3_tokenizer('x')", "fts3_tokenizer('x', 'y')",
        "randomblob(1000000000)", "zeroblob(1000000000)", "sqlite_compileoption_get(1)", "sqlite_compileoption_used('x')", "sqlite_source_id()", "sqlite_version()",
        "last_insert_rowid()", "changes()", "total_changes()", "sqlite_log(1, 'x')", "sqlite_offset(ssn)", "printf('%1000000000d', 1)", "format('%.*c', 1000000000, 'x')",
        "printf(name, 1)", "rowid", "oid", "_rowid_", "c.rowid", "ssn", "c.ssn", "upper(ssn)", "c.\"ssn\"", "\"ssn\"", "[ssn]", "`ssn`", "x'41'", "?", "?1", ":name", "@name", "$name",
        "match('x', name)", "snippet(c)", "highlight(c, 0, 'a', 'b')", "matchinfo(c)", "fts5(c)", "lsmode('x')", "sqlar_compress('x')", "fsdir('/')", "eval('select 1')", "raise(abort, 'x')", "main.upper('x')", "unknown_function(1)", "hex(randomblob(9))",
    ),
    "duckdb": (
        "getenv('HOME')", "getvariable('x')", "current_setting('threads')", "read_text('/etc/passwd')", "read_blob('/etc/passwd')", "query('select 1')",
        "query_table('customers')", "glob('/*')", "sniff_csv('x')", "nextval('s')", "currval('s')", "write_log('x')", "which_secret('x', 'y')", "duckdb_secrets()", "set_config('x', 'y')",
        "current_user", "current_database()", "current_schema()", "current_catalog()", "current_schemas(true)", "version()", "txid_current()", "pg_typeof(c)", "in_search_path('a', 'b')", "has_table_privilege('x', 'y')",
        "sleep_ms(1000)", "sql_auto_complete('x')", "json_execute_serialized_sql('x')", "json_serialize_sql('select 1')", "json_deserialize_sql('x')", "repeat('x', 1000000000)", "lpad('x', 1000000000, 'y')", "range(1000000000)", "generate_series(1, 1000000000)",
        "c.ssn", "ssn", "upper(ssn)", "c", "to_json(c)", "c::text", "struct_pack(c)", "row(c)", "list(c)", "count(c)", "columns('.*')", "columns(*)", "unpack(columns(*))", "#1", "(c).ssn", "c['ssn']", "struct_extract(c, 'ssn')", "{'a': c}", "[ssn]", "rowid", "c.rowid", "main.upper('x')",
        "list_aggregate([1], 'sum')", "list_transform([1], x -> ssn)", "[ssn for x in [1]]", "format('{:1000000000d}', 1)", "printf('%1000000000d', 1)", "printf(name)", "checkpoint()", "add_parquet_key('x', 'y')", "enable_logging()", "parse_path('x')", "st_read('x')", "shellfs('x')", "http_get('http://127.0.0.1')", "system.main.upper('x')", "$1", "?", "x'41'", "uuid()", "create_sort_key(ssn, 'ASC')", "setseed(0.5)", "error('x')",
    ),
}  # fmt: skip

SOURCES: dict[SqlDialect, tuple[str, ...]] = {
    "postgres": (
        "pg_authid", "pg_catalog.pg_class", "information_schema.tables", "pg_stat_activity", "pg_shadow", "pg_settings", "pg_largeobject", "hidden", "public.hidden", "other.customers", "db.public.customers",
        "pg_read_file('/etc/passwd')", "pg_ls_dir('/')", "dblink('x', 'select 1') AS t(a int)", "lateral pg_read_file('x')", "rows from (pg_read_file('x'))", "ts_stat('select 1')", "generate_series(1, 1000000000)", "unnest(array[ssn])",
        "xmltable('/x' passing 'y' columns a int)", "only customers", "customers tablesample system (10)", "\"PG_AUTHID\"", "customers AS c(a, b, d, e)", "current_user", "json_to_recordset('[]') as x(a int)", "pg_catalog.generate_series(1, 2)", "other.generate_series(1, 2)", "other.unnest(array[1])",
    ),
    "mysql": (
        "mysql.user", "performance_schema.threads", "sys.version", "information_schema.tables", "hidden", "other.customers", "def.db.customers", "customers PARTITION (p0)", "customers USE INDEX (x)", "customers FOR SYSTEM_TIME ALL", "JSON_TABLE('[1]', '$[*]' COLUMNS (a INT PATH '$')) AS j", "mysql.general_log", "`mysql`.`user`",
    ),
    "sqlite": (
        "sqlite_master", "sqlite_schema", "sqlite_temp_master", "sqlite_sequence", "sqlite_stat1", "main.sqlite_master", "pragma_table_info('customers')", "pragma_database_list", "pragma_function_list()", "temp.sqlite_schema", "hidden", "main.hidden", "other.customers", "fsdir('/')", "generate_series(1, 1000000000)", "dbstat", "sqlite_dbpage", "bytecode('select 1')", "tables_used('select 1')", "customers INDEXED BY x", "customers NOT INDEXED", "\"sqlite_master\"", "[sqlite_master]", "csv('x')", "readfile('x')",
    ),
    "duckdb": (
        "'/etc/passwd'", "'x.csv'", "'https://example.org/x.parquet'", "\"x.csv\"", "\"/etc/passwd\"", "read_csv('x')", "read_csv_auto('x')", "read_json('x')", "read_json_auto('x')", "read_ndjson('x')", "read_json_objects('x')", "read_parquet('x')", "parquet_scan('x')", "parquet_metadata('x')", "parquet_schema('x')", "read_text('x')", "read_blob('x')", "glob('*')", "sniff_csv('x')", "query('select 1')", "query_table('customers')", "sqlite_scan('x', 'y')", "postgres_scan('x', 'y', 'z')", "postgres_query('x', 'y')", "mysql_scan('x', 'y')", "mysql_query('x', 'y')", "sqlite_attach('x')", "iceberg_scan('x')", "delta_scan('x')", "arrow_scan(1, 2, 3)", "pandas_scan(1)", "seq_scan('x')", "duckdb_secrets()", "duckdb_settings()", "duckdb_tables()", "duckdb_columns()", "pragma_table_info('customers')", "which_secret('x', 'y')", "information_schema.tables", "pg_catalog.pg_class", "sqlite_master", "duckdb_functions()", "hidden", "main.hidden", "memory.main.customers", "system.information_schema.tables", "temp.customers", "range(1000000000)", "test_all_types()", "repeat_row(1, num_rows=1000000000)", "unnest([ssn])", "st_read('x')", "read_xlsx('x')", "customers AS c(a, b)", "customers TABLESAMPLE 10", "(PIVOT customers ON name)", "(DESCRIBE customers)", "(SHOW TABLES)", "(SUMMARIZE customers)", "(FROM hidden)", "df", "read_duckdb('x')", "values_from_file('x')",
    ),
}  # fmt: skip

_EVERYWHERE: tuple[str, ...] = (
    "", ";", "SELECT", "SELECT 1; SELECT 2", "SELECT name FROM customers; DROP TABLE customers", "COMMIT; SELECT 1", "INSERT INTO customers (id) VALUES (1)", "UPDATE customers SET name = 'x'",
    "DELETE FROM customers", "DROP TABLE customers", "CREATE TABLE x (a int)", "CREATE TABLE x AS SELECT 1", "CREATE VIEW x AS SELECT 1", "ALTER TABLE customers ADD x int", "TRUNCATE customers", "GRANT SELECT ON customers TO x",
    "BEGIN", "ROLLBACK", "SET x = 1", "EXPLAIN SELECT 1", "EXPLAIN ANALYZE SELECT name FROM customers", "VALUES (1)", "SELECT * FROM hidden", "SELECT hidden_column FROM customers", "SELECT c.hidden_column FROM customers c",
    "SELECT * FROM customers", "SELECT c.* FROM customers c", "SELECT ssn FROM customers", "SELECT name FROM customers WHERE ssn LIKE '1%'", "SELECT name FROM customers ORDER BY ssn", "SELECT COUNT(*) FROM customers GROUP BY ssn",
    "SELECT name FROM customers HAVING MAX(ssn) > '1'", "SELECT COUNT(ssn) FROM customers", "SELECT a.name FROM customers a JOIN customers b ON a.ssn = b.ssn", "SELECT a.name FROM customers a JOIN customers b USING (ssn)",
    "SELECT a.name FROM customers a NATURAL JOIN customers b", "SELECT phone FROM customers ORDER BY phone", "SELECT phone FROM customers ORDER BY 1", "SELECT phone AS p FROM customers ORDER BY p", "SELECT name FROM customers WHERE phone = '555'",
    "SELECT UPPER(phone) FROM customers", "SELECT CAST(phone AS CHAR(9)) FROM customers", "SELECT COUNT(DISTINCT phone) FROM customers", "SELECT MAX(phone) FROM customers", "SELECT phone, COUNT(*) FROM customers GROUP BY phone", "SELECT phone, COUNT(*) FROM customers GROUP BY 1",
    "SELECT p FROM (SELECT phone AS p FROM customers) q WHERE p = '555'", "WITH q AS (SELECT phone AS p FROM customers) SELECT COUNT(*) FROM q WHERE p LIKE '5%'", "WITH q (p) AS (SELECT phone FROM customers) SELECT p || 'x' FROM q", "WITH q (p) AS (SELECT phone FROM customers) SELECT q2.p FROM q AS q2 ORDER BY q2.p",
    "SELECT (SELECT phone FROM customers LIMIT 1)", "SELECT 1 WHERE '555' IN (SELECT phone FROM customers)", "SELECT name FROM customers WHERE EXISTS (SELECT 1 FROM customers c WHERE c.phone = '5')", "SELECT phone FROM customers UNION SELECT '555'", "SELECT phone FROM customers UNION ALL SELECT '555'",
    "SELECT email FROM customers UNION ALL SELECT 'a@example.org'", "SELECT phone FROM customers INTERSECT SELECT phone FROM customers", "SELECT phone FROM customers EXCEPT SELECT phone FROM customers", "SELECT phone FROM customers UNION ALL SELECT email FROM customers", "SELECT name FROM customers UNION SELECT ssn FROM customers",
    "SELECT CASE WHEN phone = '5' THEN 1 ELSE 0 END FROM customers", "SELECT COALESCE(phone, '') FROM customers", "SELECT ROW_NUMBER() OVER (ORDER BY phone) FROM customers", "SELECT COUNT(*) OVER (PARTITION BY email) FROM customers", "SELECT LAG(phone) OVER (ORDER BY id) FROM customers", "SELECT a.name FROM customers a JOIN customers b ON a.email = b.email",
    "SELECT band FROM customers", "SELECT name FROM customers WHERE band = 'low'", "SELECT band, name FROM customers GROUP BY name", "SELECT MAX(band) FROM customers", "SELECT band FROM customers ORDER BY band", "SELECT name, COUNT(CASE WHEN band = 'low' THEN 1 END) FROM customers GROUP BY name", "SELECT band, COUNT(*) FROM customers CROSS JOIN orders GROUP BY band",
    "SELECT b, COUNT(*) FROM (SELECT band AS b FROM customers) q GROUP BY b", "SELECT band, COUNT(*) FROM customers WHERE band = 'low' GROUP BY band", "SELECT UPPER(band), COUNT(*) FROM customers GROUP BY UPPER(band)", "SELECT band AS b, COUNT(*) FROM customers WHERE b = 'low' GROUP BY b", "SELECT DISTINCT band FROM customers",
    "SELECT o.id FROM orders o WHERE o.id IN (SELECT 1 FROM hidden)", "WITH x AS (SELECT * FROM hidden) SELECT * FROM x", "WITH hidden AS (SELECT * FROM hidden) SELECT * FROM hidden", "WITH a AS (SELECT * FROM hidden), hidden AS (SELECT 1 AS x) SELECT * FROM a", "SELECT name FROM customers LIMIT (SELECT 1)",
    "WITH x AS (DELETE FROM customers RETURNING id) SELECT * FROM x", "WITH x AS (INSERT INTO customers (id) VALUES (1) RETURNING id) SELECT * FROM x", "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n", "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n, n AS m", "SELECT x.y.z.name FROM customers",
    "SELECT name FROM customers c, (SELECT c.ssn) q", "SELECT (SELECT c.ssn) FROM customers c", "SELECT (SELECT (SELECT c.ssn)) FROM customers c", "SELECT name FROM customers WHERE (id, ssn) = (1, '2')", "SELECT name FROM customers c WHERE c.id = (SELECT MAX(o.id) FROM orders o WHERE o.customer_id = c.ssn)",
    "SELECT name FROM customers FOR UPDATE", "SELECT name INTO x FROM customers", "SELECT name FROM customers GROUP BY 99", "SELECT name FROM customers ORDER BY 99", "SELECT name AS a, a AS b, b AS a2, zz FROM customers", "SELECT a.ssn AS x FROM customers a UNION ALL SELECT name FROM customers",
)  # fmt: skip

FORMS: dict[SqlDialect, tuple[str, ...]] = {
    "postgres": (
        *_EVERYWHERE,
        "COPY customers TO '/tmp/x'", "COPY customers FROM '/etc/passwd'", "COPY (SELECT 1) TO PROGRAM 'id'", "DO $$ BEGIN END $$", "CALL x()", "PREPARE x AS SELECT 1", "EXECUTE x", "LISTEN x", "NOTIFY x", "RESET ALL", "DISCARD ALL", "LOCK customers", "VACUUM", "CHECKPOINT", "DECLARE c CURSOR FOR SELECT 1", "FETCH ALL FROM c", "SHOW ALL", "LOAD 'x'", "REINDEX DATABASE x", "SECURITY LABEL ON TABLE x IS 'y'",
        "SELECT name INTO TEMP x FROM customers", "SELECT name FROM customers FOR SHARE", "SELECT name FROM customers FOR UPDATE SKIP LOCKED", "TABLE hidden", "SELECT ARRAY(SELECT ssn FROM customers)", "SELECT DISTINCT ON (ssn) name FROM customers", "SELECT DISTINCT ON (phone) name FROM customers", "SELECT q FROM (SELECT phone FROM customers) q", "SELECT row_to_json(q) FROM (SELECT phone FROM customers) q", "SELECT name FROM customers, LATERAL (SELECT customers.ssn) q", "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY ssn) FROM customers", "SELECT COUNT(*) FILTER (WHERE ssn = '1') FROM customers", "SELECT string_agg(name, ',' ORDER BY ssn) FROM customers", "SELECT band, COUNT(*) FROM customers GROUP BY GROUPING SETS ((band), ())", "SELECT band, COUNT(*) FROM customers GROUP BY ROLLUP (band)", "SELECT name FROM customers WINDOW w AS (PARTITION BY ssn)", "SELECT U&\"\\0073sn\" FROM customers", "SELECT \"SSN\" FROM customers", "SELECT name FROM \"Customers\"", "SELECT name FROM customers OFFSET (SELECT 1)", "SELECT $$x$$ || ssn FROM customers", "SELECT name FROM customers FETCH FIRST 5 ROWS WITH TIES",
    ),
    "mysql": (
        *_EVERYWHERE,
        "SELECT name FROM customers INTO OUTFILE '/tmp/x'", "SELECT name FROM customers INTO DUMPFILE '/tmp/x'", "SELECT name FROM customers INTO @x", "SELECT 1 INTO @x", "HANDLER customers OPEN", "HANDLER customers READ FIRST", "DO SLEEP(1)", "KILL 1", "LOAD DATA INFILE 'x' INTO TABLE customers", "SELECT name FROM customers PROCEDURE ANALYSE()", "SELECT /*!50000 ssn, */ name FROM customers", "SELECT name /*M! , ssn */ FROM customers", "SELECT /*! SLEEP(10) */ 1", "SHOW TABLES", "SHOW GRANTS", "USE mysql", "DESCRIBE customers", "CALL x()", "PREPARE x FROM 'select 1'", "EXECUTE x", "LOCK TABLES customers READ", "FLUSH TABLES", "RESET QUERY CACHE", "SELECT name FROM customers LOCK IN SHARE MODE", "SELECT SQL_NO_CACHE name FROM customers", "SELECT HIGH_PRIORITY name FROM customers", "SELECT name FROM customers FOR SHARE", "SELECT STRAIGHT_JOIN name FROM customers", "SELECT `ssn` FROM `customers`", "SELECT SSN FROM CUSTOMERS", "SELECT band, COUNT(*) FROM customers GROUP BY band WITH ROLLUP", "SELECT name REGEXP ssn FROM customers", "SELECT name FROM customers WHERE ssn RLIKE '1'", "SELECT GROUP_CONCAT(name ORDER BY ssn) FROM customers", "INSTALL PLUGIN x SONAME 'y'", "REPLACE INTO customers (id) VALUES (1)", "TABLE hidden", "SELECT /*+ SET_VAR(sql_mode='') */ ssn FROM customers", "BINLOG 'x'", "CHANGE MASTER TO MASTER_HOST='x'", "SET STATEMENT max_statement_time=9 FOR SELECT 1", "SELECT 'a' 'b' = ssn FROM customers",
    ),
    "sqlite": (
        *_EVERYWHERE,
        "ATTACH DATABASE '/tmp/x' AS y", "DETACH x", "VACUUM", "VACUUM INTO '/tmp/x'", "PRAGMA table_info(customers)", "PRAGMA writable_schema = 1", "REINDEX", "ANALYZE", "SAVEPOINT x", "RELEASE x", "EXPLAIN QUERY PLAN SELECT 1", "CREATE VIRTUAL TABLE x USING fts5(a)", "CREATE TRIGGER x AFTER INSERT ON customers BEGIN SELECT 1; END", "REPLACE INTO customers (id) VALUES (1)", "SELECT [ssn] FROM [customers]", "SELECT `ssn` FROM customers", "SELECT \"ssn\" FROM customers", "SELECT SSN FROM CUSTOMERS", "SELECT name FROM customers WHERE ssn GLOB '1*'", "SELECT name FROM customers WHERE ssn MATCH '1'", "SELECT name FROM customers WHERE name REGEXP ssn", "SELECT name FROM customers WHERE 1 IN hidden", "SELECT name FROM customers ORDER BY ssn COLLATE NOCASE", "SELECT group_concat(ssn) FROM customers", "SELECT phone IS NULL FROM customers", "SELECT 1 FROM customers WHERE rowid = 1", "SELECT json_each.value FROM customers, json_each(customers.ssn)", "SELECT value FROM json_each((SELECT phone FROM customers))", "SELECT total(ssn) FROM customers", "WITH n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT i FROM n", "SELECT phone COLLATE NOCASE FROM customers", "SELECT name FROM customers WHERE name = \"x\"", "SELECT unknown(ssn) FROM customers", "SELECT name -> ssn FROM customers",
    ),
    "duckdb": (
        *_EVERYWHERE,
        "COPY customers TO '/tmp/x'", "COPY (SELECT 1) TO '/tmp/x'", "EXPORT DATABASE '/tmp/x'", "IMPORT DATABASE '/tmp/x'", "ATTACH '/tmp/x'", "DETACH x", "INSTALL httpfs", "LOAD httpfs", "PRAGMA version", "CALL pragma_version()", "CREATE SECRET x (TYPE s3)", "USE memory", "CHECKPOINT", "FORCE CHECKPOINT", "VACUUM", "SHOW TABLES", "DESCRIBE customers", "SUMMARIZE customers", "FROM customers", "FROM hidden SELECT *", "FROM 'x.csv'", "PIVOT customers ON name USING COUNT(*)", "UNPIVOT customers ON name INTO NAME a VALUE b", "SELECT COLUMNS('s.*') FROM customers", "SELECT COLUMNS(c -> c LIKE 's%') FROM customers", "SELECT * EXCLUDE (name) FROM customers", "SELECT * REPLACE (ssn AS name) FROM customers", "SELECT * RENAME (ssn AS x) FROM customers", "SELECT * LIKE 's%' FROM customers", "SELECT customers FROM customers", "SELECT c FROM customers c", "SELECT name FROM customers POSITIONAL JOIN orders", "SELECT a.name FROM customers a ASOF JOIN customers b ON a.ssn >= b.ssn", "SELECT name FROM customers QUALIFY ROW_NUMBER() OVER (ORDER BY ssn) = 1", "SELECT name FROM customers USING SAMPLE 10", "SELECT phone, COUNT(*) FROM customers GROUP BY ALL", "SELECT phone FROM customers ORDER BY ALL", "SELECT band, COUNT(*) FROM customers GROUP BY ALL", "SELECT ssn AS s, s || 'x' AS t FROM customers", "SELECT phone AS p, p || 'x' AS t FROM customers", "SELECT phone AS p FROM customers WHERE p = '555'", "SELECT list(ssn) FROM customers", "SELECT {'a': ssn} FROM customers", "SELECT [phone] FROM customers", "SELECT phone[1] FROM customers", "SELECT UNNEST([phone]) FROM customers", "SELECT name FROM customers UNION ALL BY NAME SELECT ssn FROM customers", "SELECT MAX(name ORDER BY ssn) FROM customers", "SELECT arg_max(name, ssn) FROM customers", "SELECT name FROM customers SEMI JOIN orders ON customers.ssn = '1'", "SELECT list_filter([1], x -> ssn = '1') FROM customers", "SELECT name.ssn FROM customers", "SET VARIABLE x = 1", "RESET threads", "PREPARE x AS SELECT 1", "EXECUTE x", "CREATE MACRO f(x) AS x", "SELECT * FROM customers AT (VERSION => 1)", "SELECT name FROM customers LIMIT 10%", "WITH x AS MATERIALIZED (SELECT ssn FROM customers) SELECT * FROM x",
    ),
}  # fmt: skip

POSITIONS: tuple[str, ...] = (
    "SELECT {} FROM customers c",
    "SELECT c.name, {} AS x FROM customers c",
    "SELECT c.name FROM customers c WHERE {} IS NOT NULL",
    "SELECT c.name FROM customers c ORDER BY {}, 1",
    "SELECT (SELECT {} FROM customers c LIMIT 1)",
    "WITH q AS (SELECT {} AS x FROM customers c) SELECT x FROM q",
    "SELECT x FROM (SELECT {} AS x FROM customers c) q",
    "SELECT CASE WHEN c.id = 1 THEN {} END FROM customers c",
    "SELECT COUNT(*) FROM customers c GROUP BY {}, c.name",
    "SELECT COUNT(*) FROM customers c HAVING MAX({}) IS NULL",
    "SELECT c.name FROM customers c UNION ALL SELECT {} FROM customers c",
    "SELECT o.id FROM orders o JOIN customers c ON o.id = c.id AND {} IS NULL",
    "SELECT MAX({}) OVER (PARTITION BY c.id) FROM customers c",
)

SOURCE_POSITIONS: tuple[str, ...] = (
    "SELECT 1 FROM {}",
    "SELECT * FROM {}",
    "SELECT c.name FROM customers c, {}",
    "SELECT c.name FROM customers c WHERE EXISTS (SELECT 1 FROM {})",
    "WITH q AS (SELECT 1 AS x FROM {}) SELECT x FROM q",
    "SELECT x FROM (SELECT 1 AS x FROM {}) q",
    "SELECT 1 UNION ALL SELECT 1 FROM {}",
    "SELECT c.name FROM customers c CROSS JOIN {}",
)


_SPACE = re.compile("(?<!ORDER)(?<!GROUP)(?<!PARTITION) ")


def attacks(dialect: SqlDialect) -> Iterator[str]:
    """Every attack in every position, each also in other spellings."""
    plain = list(FORMS[dialect])
    plain += [position.format(call) for call in CALLS[dialect] for position in POSITIONS]
    plain += [position.format(source) for source in SOURCES[dialect] for position in SOURCE_POSITIONS]
    for number, text in enumerate(plain):
        yield text
        yield spelled(text, number)


def spelled(text: str, number: int) -> str:
    """The same statement in another spelling: case, comments instead of spaces, a semicolon, parentheses."""
    if "'" in text or '"' in text or "$" in text:  # changes inside strings would make another statement
        return [f"/* x */ {text}", f"  {text} ;", f"{text} -- x\n", f"{text} /* x */"][number % 4]
    spaced = _SPACE.sub(("  ", "\n", "/**/", " /* x */ ", "\t")[number % 5], text)
    return [spaced, text.upper(), text.lower(), spaced.swapcase()][number % 4]
