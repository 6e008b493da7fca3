//! Statements in the log that do something to rows of which no event tells: by whatever words they begin, the tables end equal.

use crate::harness::mysql::Brand;
use crate::harness::mysql_scene::MyScene;
use crate::harness::mysql_sql::MySql;

const TABLES: &[&str] = &[
    "create table emptied (id int primary key, v varchar(20))",
    "create table commented (id int primary key, v varchar(20))",
    "create table parted (id int primary key, v varchar(20)) partition by range (id) (partition low values less than (100), partition high values less than maxvalue)",
    "create table other (id int primary key, v varchar(20))",
    "create table cut (id int primary key, v varchar(20))",
    "create table moments (id int primary key, at datetime(6))",
    "create table prices (id int primary key, n decimal(12,4))",
    "create table computed (id int primary key, g int generated always as (id * 2) stored)",
    "create table doubled (id int primary key, v varchar(20))",
    "create table plain (id int primary key, v varchar(20))",
];

const ROWS: &[&str] = &[
    "insert into emptied values (1, 'one'), (2, 'two')",
    "insert into commented values (1, 'one'), (2, 'two')",
    "insert into parted values (1, 'one'), (2, 'two'), (200, 'far')",
    "insert into other values (3, 'three'), (4, 'four')",
    "insert into cut values (1, 'longer than it'), (2, 'two')",
    "insert into moments values (1, '2024-02-29 01:02:03.456789'), (2, null)",
    "insert into prices values (1, 1.2345), (2, -0.0001)",
    "insert into computed (id) values (1), (2)",
    "insert into doubled values (1, 'same'), (2, 'same'), (3, 'another')",
    "insert into plain values (1, 'one')",
];

/// What both servers take; then what only MariaDB does.
const STATEMENTS: &[&str] = &[
    "/*Migration 42*/ truncate table commented",
    "alter table parted exchange partition low with table other",
    "set session sql_mode = ''",
    "alter table cut modify v varchar(3)",
    "set session sql_mode = default",
    "alter table moments modify at datetime",
    "alter table moments modify at datetime(6)",
    "alter table prices modify n decimal(12,2)",
    "alter table prices modify n decimal(12,4)",
    "alter table computed modify g int generated always as (id * 3) stored",
    // Nothing to rows: not a table is copied again for it.
    "analyze table plain",
    "create view seen as select * from plain",
    "create trigger before_plain before insert on plain for each row set @a = 1",
    "create index i on plain (v)",
    "alter table plain modify v varchar(20) comment 'the same type'",
    "grant select on plain to reader@'%'",
];

const OF_MARIADB: &[&str] = &[
    "set statement max_statement_time = 60 for truncate table emptied",
    "alter ignore table doubled add unique (v)",
];

#[test]
fn what_statements_do_to_rows_is_not_lost() {
    for brand in [Brand::MySql9, Brand::MariaDb118] {
        let Some(mut scene) = MyScene::new("my-statements", brand) else { continue };
        scene.config.sink = "  schema_changes: {other: resync}\n".into();
        let mut sql = scene.sql();
        TABLES.iter().chain(ROWS).for_each(|statement| sql.exec(statement));
        scene.drain();
        STATEMENTS.iter().for_each(|statement| sql.exec(statement));
        if brand.is_mariadb() {
            OF_MARIADB.iter().for_each(|statement| sql.exec(statement));
        }
        sql.exec("insert into plain values (2, 'two')");
        let outcome = scene.drain();
        for create in TABLES {
            let name = create.split_whitespace().nth(2).expect("a name");
            assert_eq!(
                scene.difference(&format!("shop.{name}")),
                None,
                "{brand:?}: {name}\n{}",
                outcome.stderr
            );
        }
        let copied = |table: &str| {
            let names = format!("\"table\":\"shop.{table}\"");
            outcome.stderr.lines().any(|line| line.contains("\"table copied\"") && line.contains(&names))
        };
        assert!(copied("cut") && !copied("plain"), "{brand:?}: {}", outcome.stderr);
        // Rows of the past stand in the same table as those of now, and the log tells of both alike.
        if brand.is_mariadb() {
            versioned(&scene, &mut sql);
        }
    }
}

fn versioned(scene: &MyScene, sql: &mut MySql) {
    sql.exec(
        "create table declared (id int primary key, v int, a timestamp(6) generated always as row start, \
         b timestamp(6) generated always as row end, period for system_time (a, b)) with system versioning",
    );
    sql.exec("create table hidden (id int primary key, v int) with system versioning");
    let refused = |scene: &MyScene, names: &[&str]| {
        let outcome = scene.run(&["--until-caught-up"]);
        outcome.expect_code(1).expect_error("MY026");
        let is_named = |name: &&str| {
            outcome.stderr.contains(&format!("table \\\"shop.{name}\\\": it is system-versioned"))
        };
        assert!(names.iter().all(is_named), "{}", outcome.stderr);
    };
    refused(scene, &["declared", "hidden"]);
    // One that becomes such a table while it is followed.
    sql.exec("drop table declared, hidden");
    sql.exec("alter table plain add system versioning");
    sql.exec("update plain set v = 'another' where id = 1");
    refused(scene, &["plain"]);
}
