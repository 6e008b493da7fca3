//! Every type of MySQL and MariaDB by both ways: a table that was copied holds what its twin holds that was streamed.
//!
//! The SQL is that of the codecs' own tests (`tests/golden/binlog`): there, each value of the log is compared with what
//! the server says of it; here, the copy with the log, through the whole program and a reader that is not ours.

use crate::harness::mysql::Brand;
use crate::harness::mysql_scene::MyScene;
use crate::harness::random::Random;
use crate::harness::reader::Engine;

const TYPES: &str = include_str!("../golden/binlog/types.sql");
const MYSQL: &str = include_str!("../golden/binlog/types_mysql.sql");
const MARIADB: &str = include_str!("../golden/binlog/types_mariadb.sql");

/// The same statement about the twin.
fn twin(line: &str) -> String {
    let starts = ["create table ", "insert into ", "insert ignore into "];
    starts.iter().fold(line.to_owned(), |line, start| line.replace(start, &format!("{start}twin_")))
}

fn every_type(brand: Brand, test: &str) {
    let Some(mut scene) = MyScene::new(test, brand) else { return };
    // Dates that no calendar has.
    scene.config.sink = "  infinity: \"null\"\n".into();
    let own = if brand.is_mariadb() { MARIADB } else { MYSQL };
    // Delta has no names with blanks in them.
    let lines: Vec<&str> = TYPES.lines().chain(own.lines()).filter(|line| !line.contains("we ird")).collect();
    let mut sql = scene.sql();
    for line in &lines {
        sql.exec(line);
    }
    for line in lines.iter().filter(|line| !line.contains("insert ")) {
        sql.exec(&twin(line));
    }
    scene.drain();
    // One session, from the beginning: the settings stand between the rows.
    let mut sql = scene.sql();
    for line in lines.iter().filter(|line| !line.contains("create table ")) {
        sql.exec(&twin(line));
    }
    scene.drain();
    let columns = sql.rows(
        "select table_name, column_name from information_schema.columns where table_schema = 'shop' \
         and table_name not like 'twin%' order by table_name, ordinal_position",
    );
    let mut tables: Vec<(String, Vec<String>)> = Vec::new();
    for row in columns {
        let [Some(table), Some(column)] = <[_; 2]>::try_from(row).expect("two columns") else {
            panic!("a name is missing")
        };
        match tables.last_mut() {
            Some((last, columns)) if *last == table => columns.push(column),
            _ => tables.push((table, vec![column])),
        }
    }
    let (mut values, mut wrong) = (0, Vec::new());
    for (table, columns) in &tables {
        let mut rows_of = |name: String| {
            let path = scene.table(&format!("shop.{name}"));
            let rows = scene.readers().try_rows(Engine::DuckDb, &path, None, Some(columns));
            let mut rows = rows.unwrap_or_else(|error| panic!("{brand:?}, {name}: {error}"));
            rows.sort();
            rows
        };
        let (copied, streamed) = (rows_of(table.clone()), rows_of(format!("twin_{table}")));
        assert!(!copied.is_empty(), "{brand:?}, {table}: no rows");
        values += copied.len() * columns.len();
        if copied != streamed {
            wrong.push(format!("{table}:\n  copied   {copied:?}\n  streamed {streamed:?}"));
        }
    }
    assert!(wrong.is_empty(), "{brand:?}:\n{}", wrong.join("\n"));
    println!("{brand:?}: {values} values in {} tables", tables.len());
    assert!(values >= 700, "{brand:?}: only {values} values");
}

#[test]
fn every_type_of_mysql_by_both_ways() {
    every_type(Brand::MySql9, "my-types");
}

#[test]
fn every_type_of_mariadb_11_8_by_both_ways() {
    every_type(Brand::MariaDb118, "my-types-118");
}

#[test]
fn every_type_of_mariadb_10_11_by_both_ways() {
    every_type(Brand::MariaDb1011, "my-types-1011");
}

/// A type and a value of it. What the log says of columns, it says for all of one kind one after the other, so that a
/// kind that is counted wrongly shows in the columns behind it.
const KINDS: &[(&str, &str)] = &[
    ("tinyint", "-5"),
    ("tinyint unsigned", "250"),
    ("smallint", "-300"),
    ("smallint unsigned", "65000"),
    ("mediumint", "-70000"),
    ("mediumint unsigned", "16000000"),
    ("int", "-3"),
    ("int unsigned", "4000000000"),
    ("bigint", "-9"),
    ("bigint unsigned", "18446744073709551615"),
    ("float unsigned", "1.5"),
    ("double", "-2.5"),
    ("decimal(6,2)", "-12.25"),
    ("decimal(9,0) unsigned", "7"),
    ("year", "1986"),
    ("bit(11)", "b'10000000001'"),
    ("bit(1)", "b'1'"),
    ("boolean", "true"),
    ("enum('a','ü') character set latin1", "'ü'"),
    ("enum('x','y')", "'y'"),
    ("set('p','q')", "'p,q'"),
    ("char(3) character set latin1", "'äö'"),
    ("varchar(300) character set utf8mb4", "'🦀'"),
    ("varchar(20) character set utf8mb3", "'é'"),
    ("tinytext character set latin1", "'ß'"),
    ("longtext", "'long'"),
    ("binary(3)", "x'0102'"),
    ("varbinary(9)", "x'ff'"),
    ("blob", "x'00ff'"),
    ("date", "'2001-02-03'"),
    ("time(2)", "'-11:22:33.44'"),
    ("datetime(6)", "'2001-02-03 04:05:06.070809'"),
    ("timestamp(3) null", "'2001-02-03 04:05:06.789'"),
    ("json", "'[1, \"a\"]'"),
    ("point", "st_geomfromtext('point(1 2)')"),
    ("geometry", "st_geomfromtext('linestring(0 0, 1 1)')"),
];

/// Columns of every kind in one order and another: by both ways, each arrives as its own kind.
fn any_order(brand: Brand, test: &str) {
    let Some(mut scene) = MyScene::new(test, brand) else { return };
    let mut random = Random::from_env(test);
    let mut below = |n: usize| usize::try_from(random.between(0, n as u64)).expect("it is below n");
    let mut sql = scene.sql();
    let mut streamed = Vec::new();
    for table in 0..12 {
        let mut kinds = KINDS.to_vec();
        for at in (1..kinds.len()).rev() {
            kinds.swap(at, below(at + 1));
        }
        kinds.truncate(6 + below(kinds.len() - 5));
        let mut columns: Vec<String> =
            kinds.iter().enumerate().map(|(at, (kind, _))| format!("c{at} {kind}")).collect();
        columns.insert(below(columns.len()), "id int unsigned primary key".into());
        sql.exec(&format!("create table any{table} ({})", columns.join(", ")));
        let names: Vec<String> = (0..kinds.len()).map(|at| format!("c{at}")).collect();
        let values: Vec<&str> = kinds.iter().map(|(_, value)| *value).collect();
        let insert = format!("insert into any{table} (id, {}) values ", names.join(", "));
        sql.exec(&format!("{insert} (1, {})", values.join(", ")));
        streamed.push((table, names, format!("{insert} (2, {})", values.join(", "))));
    }
    scene.drain();
    streamed.iter().for_each(|(_, _, insert)| sql.exec(insert));
    scene.drain();
    for (table, names, _) in &streamed {
        let path = scene.table(&format!("shop.any{table}"));
        let rows = scene.readers().try_rows(Engine::DuckDb, &path, None, Some(names));
        let rows = rows.unwrap_or_else(|error| panic!("{brand:?}, any{table}: {error}"));
        assert_eq!(rows.len(), 2, "{brand:?}, any{table}");
        assert_eq!(rows[0], rows[1], "{brand:?}, any{table}");
    }
}

#[test]
fn columns_stand_in_any_order() {
    any_order(Brand::MySql9, "my-order");
    any_order(Brand::MariaDb118, "my-order-118");
    any_order(Brand::MariaDb1011, "my-order-1011");
}
