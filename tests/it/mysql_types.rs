//! Every type of MySQL and MariaDB: a value is the same by the first copy and by the stream, plain and compressed, and
//! equals what the server shows.

use crate::harness::mysql::Brand;
use crate::harness::mysql_scene::MyScene;

/// Columns, and a value of each per row.
const COLUMNS: &[(&str, &[&str])] = &[
    ("ti tinyint", &["-128", "127", "null", "0"]),
    ("tu tinyint unsigned", &["255", "0", "null", "1"]),
    ("bo boolean", &["true", "false", "null", "7"]),
    ("si smallint", &["-32768", "32767", "null", "0"]),
    ("su smallint unsigned", &["65535", "0", "null", "1"]),
    ("mi mediumint", &["-8388608", "8388607", "null", "0"]),
    ("mu mediumint unsigned", &["16777215", "0", "null", "1"]),
    ("ii int", &["-2147483648", "2147483647", "null", "0"]),
    ("iu int unsigned", &["4294967295", "0", "null", "1"]),
    ("bi bigint", &["-9223372036854775808", "9223372036854775807", "null", "0"]),
    ("bu bigint unsigned", &["18446744073709551615", "9223372036854775808", "null", "0"]),
    ("d1 decimal(10,2)", &["99999999.99", "-0.01", "null", "0"]),
    ("d2 decimal(38,10)", &["9999999999999999999999999999.9999999999", "-1", "null", "0.0000000001"]),
    (
        "d3 decimal(65,30)",
        &["12345678901234567890123456789012345.123456789012345678901234567890", "-1", "null", "0"],
    ),
    ("f1 float", &["3.4028234e38", "-1.17549435e-38", "null", "0.1"]),
    ("f2 double", &["1.7976931348623157e308", "2.2250738585072014e-308", "null", "0.1"]),
    ("b1 bit(1)", &["1", "0", "null", "1"]),
    ("b64 bit(64)", &["18446744073709551615", "1", "null", "0"]),
    ("yr year", &["1901", "2155", "null", "0"]),
    ("da date", &["'1000-01-01'", "'9999-12-31'", "null", "'2024-02-29'"]),
    ("t0 time", &["'-838:59:59'", "'838:59:59'", "null", "'00:00:00'"]),
    ("t6 time(6)", &["'-00:00:00.000001'", "'12:34:56.789012'", "null", "'23:59:59.999999'"]),
    ("dt datetime", &["'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'", "null", "'2024-02-29 12:00:00'"]),
    (
        "d6 datetime(6)",
        &[
            "'2024-02-29 01:02:03.456789'",
            "'1970-01-01 00:00:00.000001'",
            "null",
            "'9999-12-31 23:59:59.999999'",
        ],
    ),
    (
        "ts timestamp null",
        &["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "null", "'2024-03-31 01:30:00'"],
    ),
    (
        "t3 timestamp(3) null",
        &["'1970-01-01 00:00:01.001'", "'2024-10-27 01:30:00.999'", "null", "'2024-03-31 01:30:00'"],
    ),
    ("c1 char(5)", &["'a'", "''", "null", "'ß€'"]),
    ("v1 varchar(20)", &["'Grüße'", "''", "null", "'trailing  '"]),
    ("v2 varchar(255) character set latin1", &["'naïve €'", "''", "null", "'x'"]),
    ("v3 varchar(300) character set utf8mb4", &["'😀 emoji'", "repeat('ä', 300)", "null", "''"]),
    ("v4 varchar(20) character set utf16", &["'日本'", "''", "null", "'a'"]),
    ("v5 varchar(20) character set gbk", &["'中文'", "''", "null", "'a'"]),
    ("v6 varchar(20) character set sjis", &["'日本'", "''", "null", "'a'"]),
    ("v7 varchar(20) character set ascii", &["'abc'", "''", "null", "'~'"]),
    ("tx text", &["'text ✓'", "''", "null", "repeat('x', 3000)"]),
    ("ml mediumtext", &["repeat('y', 70000)", "''", "null", "'z'"]),
    ("bn binary(4)", &["x'01'", "x'00000000'", "null", "x'ffffff00'"]),
    ("vb varbinary(10)", &["x'00ff'", "''", "null", "x'80'"]),
    ("bl blob", &["x'deadbeef00'", "''", "null", "repeat(x'ff', 300)"]),
    ("en enum('a','b''c','ü')", &["'a'", "'b''c'", "null", "'ü'"]),
    ("st set('x','y','z')", &["'x,z'", "''", "null", "'y'"]),
];
/// Only of MySQL, whose JSON has a binary form.
const OF_MYSQL: &[(&str, &[&str])] = &[
    ("js json", &["'{\"b\": 1, \"aa\": [1, 2.5, null, true, \"x\"]}'", "'[]'", "null", "'\"ü\"'"]),
    (
        "jd json",
        &[
            "cast(cast('2024-01-01 01:02:03' as datetime) as json)",
            "json_array(cast(1.50 as decimal(5,2)))",
            "null",
            "'1e100'",
        ],
    ),
    (
        "ge geometry",
        &[
            "st_geomfromtext('POINT(1 2)')",
            "st_geomfromtext('LINESTRING(0 0, 1 1)', 4326)",
            "null",
            "st_geomfromtext('POINT(0 0)')",
        ],
    ),
];
/// Only of MariaDB.
const OF_MARIADB: &[(&str, &[&str])] = &[
    ("js json", &["'{\"b\": 1, \"aa\": [1, 2.5, null, true]}'", "'[]'", "null", "'1'"]),
    (
        "uu uuid",
        &[
            "'123e4567-e89b-12d3-a456-426655440000'",
            "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
            "null",
            "'00000000-0000-0000-0000-000000000000'",
        ],
    ),
    ("i6 inet6", &["'2001:db8::ff00:42:8329'", "'::'", "null", "'::ffff:192.0.2.1'"]),
];

#[test]
fn a_value_is_the_same_by_copy_and_by_stream() {
    for brand in [Brand::MySql9, Brand::MariaDb118, Brand::MariaDb1011] {
        let Some(mut scene) = MyScene::new("my-types", brand) else { continue };
        let mut columns = COLUMNS.to_vec();
        columns.extend(if brand.is_mariadb() { OF_MARIADB } else { OF_MYSQL });
        let list: Vec<&str> = columns.iter().map(|(column, _)| *column).collect();
        let mut sql = scene.sql();
        let tables = ["copied", "streamed", "packed"];
        for table in tables {
            sql.exec(&format!(
                "create table {table} (id int primary key, {}) default charset utf8mb4",
                list.join(", ")
            ));
        }
        let rows: Vec<String> = (0..4)
            .map(|row| {
                let values: Vec<&str> = columns.iter().map(|(_, values)| values[row]).collect();
                format!("({row}, {})", values.join(", "))
            })
            .collect();
        sql.exec(&format!("insert into copied values {}", rows.join(", ")));
        scene.drain();
        sql.exec(&format!("insert into streamed values {}", rows.join(", ")));
        // Once more as an update of every row.
        sql.exec("update streamed set id = id + 100");
        sql.exec("update streamed set id = id - 100");
        if brand.is_mariadb() {
            sql.exec("set global log_bin_compress = on");
            sql.exec("set global log_bin_compress_min_len = 10");
        } else {
            sql.exec("set session binlog_transaction_compression = on");
        }
        sql.exec(&format!("insert into packed values {}", rows.join(", ")));
        scene.drain();
        for table in tables {
            // Values that the harness cannot spell as Delta has them are compared between the tables below.
            let path = scene.table(&format!("shop.{table}"));
            let rows = scene.readers().sql(&path, None, "select * from t order by id");
            assert_eq!(rows.len(), 4, "{brand:?} {table}");
        }
        let copied = scene.table("shop.copied");
        let names = scene.readers().sql(&copied, None, "select * from t where id = 0");
        let expected =
            scene.readers().try_rows(crate::harness::reader::Engine::DuckDb, &copied, None, None).unwrap();
        for table in ["streamed", "packed"] {
            let path = scene.table(&format!("shop.{table}"));
            let found =
                scene.readers().try_rows(crate::harness::reader::Engine::DuckDb, &path, None, None).unwrap();
            let difference = crate::harness::compare::difference(expected.clone(), found);
            assert_eq!(difference, None, "{brand:?} {table}: {}", columns.len());
        }
        println!(
            "{brand:?}: {} values in {} columns by copy, stream and packed stream: {names:?}",
            4 * columns.len() * 3,
            columns.len()
        );
        // What the server shows, of the types that both sides spell alike.
        let same = [
            "ti", "tu", "si", "su", "mi", "mu", "ii", "iu", "bi", "bu", "d1", "d2", "d3", "f1", "f2", "da",
            "dt", "d6", "ts", "t3", "c1", "v1", "v2", "v3", "v5", "v6", "v7", "tx", "ml", "bn", "vb", "bl",
            "en", "st",
        ];
        let names: Vec<String> = same.iter().map(|name| (*name).to_owned()).collect();
        let source = sql.rows(&format!("select {} from copied", names.join(", ")));
        let target = scene
            .readers()
            .try_rows(crate::harness::reader::Engine::DuckDb, &copied, None, Some(&names))
            .unwrap();
        assert_eq!(crate::harness::compare::difference(source, target), None, "{brand:?}");
    }
}
