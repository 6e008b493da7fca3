//! Every value by copy and by stream, against the source's own text.

use crate::harness::{NEWEST, OLDEST, Scene, matrix};

/// A column and values at its edges.
const COLUMNS: &[(&str, &str, &[&str])] = &[
    ("c_bool", "boolean", &["true", "false"]),
    ("c_int2", "smallint", &["0", "-32768", "32767"]),
    ("c_int4", "integer", &["0", "-2147483648", "2147483647"]),
    ("c_int8", "bigint", &["0", "-9223372036854775808", "9223372036854775807"]),
    (
        "c_float4",
        "real",
        &["'0'", "'-0'", "'1e-45'", "'3.4028235e38'", "'NaN'", "'Infinity'", "'-Infinity'", "'0.1'"],
    ),
    (
        "c_float8",
        "double precision",
        &[
            "'0'",
            "'-0'",
            "'5e-324'",
            "'1.7976931348623157e308'",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "'0.30000000000000004'",
        ],
    ),
    ("c_num_12_2", "numeric(12,2)", &["0", "-0.01", "9999999999.99", "-9999999999.99", "1.5"]),
    (
        "c_num_38_10",
        "numeric(38,10)",
        &[
            "0.0000000001",
            "9999999999999999999999999999.9999999999",
            "-9999999999999999999999999999.9999999999",
        ],
    ),
    ("c_num_38_0", "numeric(38,0)", &["99999999999999999999999999999999999999", "-1", "10000"]),
    ("c_num_10_10", "numeric(10,10)", &["0.9999999999", "-0.0000000001"]),
    (
        "c_num",
        "numeric",
        &[
            "0",
            "1.50",
            "1.500",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "1e130000",
            "1e-16000",
            "-12345678901234567890.000100",
        ],
    ),
    ("c_num_50_5", "numeric(50,5)", &["123456789012345678901234567890123456789012345.12345", "-1", "'NaN'"]),
    ("c_num_neg", "numeric(5,-2)", &["12300", "-9999900", "0"]),
    (
        "c_text",
        "text",
        &["''", "'a'", "e'tab\\tline\\nquote\"\\\\'", "'žluťoučký 🐎 \u{10FFFD}'", "repeat('long', 50000)"],
    ),
    ("c_varchar", "varchar(10)", &["''", "'  x  '", "'ž🐎'"]),
    ("c_char", "char(8)", &["''", "'abc'", "'žž'"]),
    ("c_enum", "mood", &["'happy'", "'very sad'"]),
    ("c_domain", "positive", &["1", "2147483647"]),
    ("c_json", "json", &["'{\"b\": 1,  \"a\": [1,2 , null]}'", "'null'", "'\"x\"'", "'1.0'"]),
    ("c_jsonb", "jsonb", &["'{\"b\": 1,  \"a\": [1,2 , null]}'", "'null'", "'1e400'", "'\"\\u00e9\"'"]),
    ("c_bytea", "bytea", &["''", "'\\x00ff'", "decode(repeat('00ff10', 30000), 'hex')"]),
    ("c_uuid", "uuid", &["'00000000-0000-0000-0000-000000000000'", "'FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF'"]),
    (
        "c_date",
        "date",
        &[
            "'4713-01-01 BC'",
            "'0001-12-31 BC'",
            "'0001-01-01'",
            "'1970-01-01'",
            "'1582-10-10'",
            "'9999-12-31'",
        ],
    ),
    ("c_time", "time", &["'00:00:00'", "'24:00:00'", "'23:59:59.999999'", "'12:34:56.1'"]),
    (
        "c_timestamp",
        "timestamp",
        &[
            "'4713-01-01 00:00:00 BC'",
            "'0001-01-01 00:00:00.000001'",
            "'1969-12-31 23:59:59.999999'",
            "'9999-12-31 23:59:59.999999'",
        ],
    ),
    (
        "c_timestamptz",
        "timestamptz",
        &[
            "'4713-01-02 00:00:00+00 BC'",
            "'1900-01-01 00:00:00+05:53:28'",
            "'1969-12-31 23:59:59.999999+00'",
            "'9999-12-31 00:00:00+00'",
        ],
    ),
];

/// One row per value, the other columns null; and one row that is all null.
fn inserts(first: usize) -> String {
    let mut script = format!("insert into v (id) values ({first});");
    let mut id = first;
    for (column, _, values) in COLUMNS {
        for value in *values {
            id += 1;
            script.push_str(&format!("insert into v (id, {column}) values ({id}, {value});"));
        }
    }
    script
}

#[test]
fn copy_and_stream_give_the_sources_values() {
    for major in [NEWEST, OLDEST] {
        let mut scene = Scene::on("types", major);
        let columns: Vec<String> = COLUMNS.iter().map(|(name, kind, _)| format!("{name} {kind}")).collect();
        // Scales below zero came with PostgreSQL 15.
        let has_scales = matrix().is_none_or(|major| major >= 15);
        let columns = columns.join(", ").replace("(5,-2)", if has_scales { "(5,-2)" } else { "" });
        scene.sql().exec(&format!(
            "create type mood as enum ('happy', 'very sad'); create domain positive as int check (value > 0);
             create table v (id int primary key, {columns})"
        ));
        scene.sql().exec(&inserts(0));
        scene.drain();
        scene.assert_equal(&["public.v"]);
        scene.sql().exec(&inserts(1000));
        scene.drain();
        scene.assert_equal(&["public.v"]);
        // The same rows, changed by an update.
        let moves: Vec<String> = COLUMNS.iter().map(|(c, ..)| format!("{c} = b.{c}")).collect();
        scene.sql().exec(&format!(
            "insert into v (id) select id + 2000 from v where id < 1000;
             update v a set {} from v b where a.id = b.id + 2000 and b.id < 1000",
            moves.join(", ")
        ));
        scene.drain();
        scene.assert_equal(&["public.v"]);
    }
}

/// The session's settings do not reach the values.
#[test]
fn the_roles_settings_do_not_change_values() {
    let mut scene = Scene::new("types-settings");
    scene.sql().exec(
        "alter role strandline set datestyle = 'SQL, DMY'; alter role strandline set extra_float_digits = -10;
         alter role strandline set intervalstyle = 'sql_standard'; alter role strandline set bytea_output = 'escape';
         alter role strandline set timezone = 'Asia/Kathmandu';
         create table v (id int primary key, d date, f float8, b bytea, t timestamptz, n numeric);
         insert into v values (1, '2024-03-04', 0.30000000000000004, '\\x00ff', '2024-03-04 12:00+00', 1.10)",
    );
    scene.drain();
    scene.assert_equal(&["public.v"]);
    scene.sql().exec("insert into v select id + 1, d, f, b, t, n from v");
    scene.drain();
    scene.assert_equal(&["public.v"]);
}

/// Values that are stored out of line and that the log does not repeat.
#[test]
fn unchanged_large_values_stay() {
    let mut scene = Scene::new("types-toast");
    scene.sql().exec(
        "create table big (id int primary key, small int, doc text, raw bytea, extra jsonb);
         alter table big alter doc set storage external, alter raw set storage external, alter extra set storage external;
         insert into big select i, i, repeat(md5(i::text), 1000), decode(repeat(md5(i::text), 500), 'hex'),
                jsonb_build_object('k', repeat(md5(i::text), 500)) from generate_series(1, 50) i",
    );
    scene.drain();
    scene.assert_equal(&["public.big"]);
    let changes = [
        // Beside the large values; twice in one transaction; one of them new, the others not.
        "update big set small = small + 1 where id % 2 = 0",
        "begin; update big set small = 7 where id = 1; update big set small = 8 where id = 1; commit",
        "update big set doc = repeat('new', 5000) where id = 2",
        "begin; update big set doc = repeat('a', 9000) where id = 3; update big set small = 0 where id = 3; commit",
        // A key moves, alone and twice, and comes back.
        "update big set id = id + 1000 where id between 10 and 15",
        "begin; update big set id = 2000 where id = 20; update big set id = 2001, small = 1 where id = 2000; commit",
        "begin; update big set id = 3000 where id = 30; update big set id = 30 where id = 3000; commit",
        // Two rows change places.
        "begin; update big set id = -40 where id = 40; update big set id = 40 where id = 41; update big set id = 41 where id = -40; commit",
        // Null is a value, and so is what comes after it.
        "update big set doc = null where id = 5",
        "begin; update big set doc = null where id = 6; update big set small = 66 where id = 6; commit",
        // Deleted and inserted again: nothing is inherited.
        "begin; delete from big where id = 7; insert into big (id, small) values (7, 1); update big set small = 2 where id = 7; commit",
    ];
    // All in one run of many units, then each in a run of its own.
    for change in changes {
        scene.sql().exec(change);
    }
    scene.drain();
    scene.assert_equal(&["public.big"]);
    scene.sql().exec("truncate big; insert into big select i, i, repeat(md5(i::text), 1000), null, null from generate_series(1, 50) i");
    for change in changes {
        scene.drain();
        scene.sql().exec(change);
    }
    scene.drain();
    scene.assert_equal(&["public.big"]);
}

/// What the target cannot hold stops its table, with a code; the other table goes on.
#[test]
fn a_value_that_does_not_fit_stops_its_table() {
    let mut scene = Scene::new("types-misfit");
    scene.sql().exec(
        "create table good (id int primary key); create table bad (id int primary key, n numeric(12,2));
         insert into good values (1); insert into bad values (1, 1)",
    );
    scene.drain();
    scene.sql().exec("insert into bad values (2, 'NaN'); insert into good values (2)");
    let outcome = scene.run(&["--until-caught-up"]);
    assert!(outcome.stderr.contains("PG021"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("public.bad"), "{}", outcome.stderr);
    scene.assert_equal(&["public.good"]);
    let table = scene.table("public.bad");
    let rows = scene.readers().sql(&table, None, "select count(*), sum(id) from t");
    assert_eq!(rows[0], [Some("1".to_owned()), Some("1".to_owned())], "no row with a guessed value");
}
