//! Every type of MySQL and MariaDB by both ways: a table that was copied holds what its twin holds that was streamed.
//!
//! The SQL is that of the codecs' own tests (`tests/golden/binlog`): there, each value of the log is compared with what
//! the server says of it; here, the copy with the log, through the whole program and a reader that is not ours.

use crate::harness::mysql::Brand;
use crate::harness::mysql_scene::MyScene;
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
