//! Catalogue, quoting, publications, slots, set-up.

use crate::common::{PATIENCE, Told, catalog, sql, table};
use crate::server::Server;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::time::Duration;
use strandline::error::codes;
use strandline::pgoutput::Policies;
use strandline::schema::{ColumnKind, TableName};
use strandline::source::postgres::catalog as cat;
use strandline::source::postgres::pattern::Selection;
use strandline::source::postgres::preflight::{self, Verdict};
use strandline::source::postgres::publication;
use strandline::source::postgres::quote;
use strandline::source::postgres::setup;
use strandline::source::postgres::slot::{self, SlotKind};
use strandline::source::postgres::sql::text;

#[tokio::test]
async fn tables_columns_and_keys() {
    let server = Server::start("");
    server.sql(
        "create domain money2 as numeric(10,2) check (value > 0); create domain price as money2;
         create type mood as enum ('sad', 'ok');
         create table a(x int, id bigint, p price not null, m mood, g int generated always as (x*2) stored,
                        primary key (id, x)); alter table a drop column if exists nothing;
         create table by_index(a int not null, b uuid not null, c text); create unique index bi on by_index(b);
         alter table by_index replica identity using index bi;
         create table full_id(a int primary key, b text); alter table full_id replica identity full;
         create table deferred(a int primary key deferrable);
         create table nothing(a int primary key); alter table nothing replica identity nothing;
         create table arrays(id int primary key, v aclitem[]);
         create table hidden(id int primary key);
         create table secret(id int primary key); alter table secret enable row level security;
         create unlogged table quick(id int primary key);
         create table part(id int primary key, v text) partition by range (id);
         create table part_1 partition of part for values from (0) to (10);
         create table part_2(v text, id int not null); alter table part attach partition part_2 for values from (10) to (20);
         create table uneven(id int primary key) partition by range (id);
         create table uneven_1 partition of uneven for values from (0) to (10);
         alter table uneven_1 replica identity full;
         create table only_generated(a int generated always as (1) stored);
         create schema strandline; create table strandline.t(id int primary key);
         create role cdc login replication; grant usage on schema public to cdc;
         grant select on all tables in schema public to cdc; revoke select on hidden from cdc;",
    );
    let sql = sql(&server.options_of("cdc", "")).await;
    let found = catalog(&sql, &["*.*"]).await;
    let names: Vec<_> = found.tables.iter().map(|t| t.name().table.as_str()).collect();
    assert_eq!(names, ["a", "by_index", "deferred", "full_id", "nothing", "part"]);

    let a = table(&found, "a");
    let columns: Vec<_> =
        a.schema.columns.iter().map(|c| (c.name.as_str(), c.attnum, c.kind.clone())).collect();
    let decimal = ColumnKind::Decimal { precision: 10, scale: 2 };
    assert_eq!(
        columns,
        [
            ("x", 1, ColumnKind::Int4),
            ("id", 2, ColumnKind::Int8),
            ("p", 3, decimal),
            ("m", 4, ColumnKind::Text)
        ]
    );
    assert_eq!(a.schema.key, [1, 0], "in the order of the index");
    assert!(!a.owned && a.owner == "postgres");
    assert_eq!(table(&found, "by_index").schema.key, [1]);
    assert!(table(&found, "full_id").schema.full_before);
    for (name, publishes) in [
        ("a", true),
        ("by_index", true),
        ("full_id", true),
        ("deferred", false),
        ("nothing", false),
        ("part", true),
    ] {
        assert_eq!(table(&found, name).publishes_changes(), publishes, "{name}");
    }
    let mut rejected: Vec<(&str, &str, String)> =
        found.rejected.iter().map(|r| (r.name.table.as_str(), r.error.code().id, r.error.report())).collect();
    rejected.sort_unstable();
    let codes: Vec<_> = rejected.iter().map(|(name, code, _)| (*name, *code)).collect();
    assert_eq!(
        codes,
        [
            ("arrays", "PG020"),
            ("hidden", "PG010"),
            ("only_generated", "PG026"),
            ("secret", "PG010"),
            ("uneven", "PG008")
        ]
    );
    assert!(rejected[0].2.contains("\"v\" has type aclitem[]"), "{}", rejected[0].2);
    assert!(rejected[1].2.contains("GRANT SELECT ON \"public\".\"hidden\" TO \"cdc\""), "{}", rejected[1].2);
    assert!(rejected[3].2.contains("BYPASSRLS"), "{}", rejected[3].2);

    // What changes is seen.
    assert!(cat::still_matches(&sql, a).await.told());
    server.sql("alter table a rename m to mm");
    assert!(!cat::still_matches(&sql, a).await.told());
    let again = cat::load_by_id(&sql, &[a.id()], &Policies::default()).await.told();
    assert_eq!(again.tables[0].schema.columns[3].name, "mm");
}

/// Whatever a name holds, it comes back as it was, and nothing else happens.
#[test]
fn names_survive_a_live_server() {
    let server = Server::start("");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sql = runtime.block_on(sql(&server.options()));
    let nasty = || prop::string::string_regex("[\"'\\\\;$\\-/*\n\t a-zA-Zé☃]{1,20}").unwrap();
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 60, failure_persistence: None, ..Default::default() });
    runner
        .run(&(nasty(), nasty()), |(name, value)| {
            runtime.block_on(async {
                let table = TableName::new("public", name.clone());
                let (table, column, literal) =
                    (quote::table(&table), quote::identifier(&value), quote::literal(&value));
                let script = format!(
                    "create table {table}({column} text); insert into {table} values ({literal});
                     select {column}, (select relname from pg_catalog.pg_class where oid = {}::pg_catalog.regclass)
                     from {table}; drop table {table}",
                    quote::literal(&table)
                );
                let row = sql.row(&script).await.told();
                prop_assert_eq!(text(&row, 0), Some(value.as_str()));
                prop_assert_eq!(text(&row, 1), Some(name.as_str()));
                Ok(())
            })
        })
        .unwrap();
}

#[tokio::test]
async fn publications_are_made_and_added_to_and_do_no_harm() {
    let server = Server::start("");
    server.sql(
        "create table \"Odd, \"\"name\"(id int primary key); create table keyless(a int, b int);
         create table part(id int primary key) partition by range (id);
         create table part_1 partition of part default; insert into keyless values (1, 1);",
    );
    let mut options = server.options();
    options.publication = "Pub, \"x".to_owned();
    let sql = sql(&options).await;
    let found = catalog(&sql, &["public.*"]).await;
    let missing =
        publication::check(&sql, &options, &found.tables, publication::Second::Make).await.unwrap_err();
    assert_eq!(missing.code(), codes::PG007);
    let made = publication::ensure(&sql, &options, &found.tables, publication::Second::Make).await.told();
    assert_eq!(made.names, ["Pub, \"x", "Pub, \"x_insert"]);
    assert_eq!(made.added.len(), 3);
    assert_eq!(made.insert_only.len(), 1);
    assert!(made.insert_only[0].1.contains("REPLICA IDENTITY FULL"));
    assert_eq!(
        server.sql("select count(*) from pg_publication_tables where tablename='part'"),
        "1",
        "roots only"
    );
    // The application goes on.
    server.sql("update keyless set b = 2; delete from keyless where a = 1;");
    let again = publication::ensure(&sql, &options, &found.tables, publication::Second::Make).await.told();
    assert_eq!(again.added, []);
    publication::check(&sql, &options, &found.tables, publication::Second::Make).await.told();
    server.sql("create table later(id int primary key)");
    let found = catalog(&sql, &["public.*"]).await;
    let added = publication::ensure(&sql, &options, &found.tables, publication::Second::Make).await.told();
    assert_eq!(added.added, [TableName::new("public", "later")]);

    // A publication of somebody else's that is not enough.
    server.sql("create publication poor for table later with (publish='insert')");
    options.publication = "poor".to_owned();
    let error =
        publication::ensure(&sql, &options, &found.tables[..1], publication::Second::Make).await.unwrap_err();
    assert_eq!(error.code(), codes::PG007);
    let advice = error.advice().unwrap().to_owned();
    assert!(advice.contains("publish_via_partition_root = true"), "{advice}");
    server.sql(&advice.replace('\n', " "));
    publication::check(&sql, &options, &found.tables[..1], publication::Second::Make).await.told();
}

/// What came with 15 and with 18: publications of some rows and some columns, and of generated columns.
#[tokio::test]
async fn what_is_published_of_a_table_is_what_is_taken() {
    if crate::server::major() < 15 {
        return;
    }
    let server = Server::start("");
    server.sql(
        "create table t(id int primary key, a int, g int generated always as (a * 2) stored, b text);
         create table whole(id int primary key, a int); alter table whole replica identity full;
         create table keyless(a int, b int); create table plain(id int primary key, a int);
         create publication p for table t (id, b) where (id > 5), whole where (a > 1), keyless (a), plain
           with (publish_via_partition_root = true);
         create publication p_insert with (publish = 'insert, truncate', publish_via_partition_root = true)",
    );
    let mut options = server.options();
    options.publication = "p".to_owned();
    let sql = sql(&options).await;
    let found = catalog(&sql, &["public.*"]).await;
    let columns = |t: &cat::SourceTable| t.schema.columns.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    assert!(found.rejected.is_empty(), "{:?}", found.rejected);
    let t = table(&found, "t");
    assert_eq!((columns(t), t.filter.as_deref()), (vec!["id".into(), "b".into()], Some("(id > 5)")));
    assert_eq!(table(&found, "whole").filter.as_deref(), Some("(a > 1)"));
    assert_eq!(columns(table(&found, "keyless")), ["a"]);
    // As they are they stay: the keyless one is not published whole beside.
    let made = publication::ensure(&sql, &options, &found.tables, publication::Second::Make).await.told();
    assert_eq!(made.added, []);
    assert!(cat::still_matches(&sql, t).await.told());
    server.sql(
        "alter publication p set table t (id, b) where (id > 6), whole where (a > 1), keyless (a), plain",
    );
    assert!(!cat::still_matches(&sql, t).await.told());

    // What would make the application's own changes fail, and what cannot be told apart.
    for (of_table, words) in [
        ("t (a, b)", "leaves out \"id\""),
        ("plain where (a > 1)", "looks at \"a\""),
        ("whole (id)", "leaves out \"a\""),
    ] {
        server.sql(&format!("alter publication p set table {of_table}"));
        let found = catalog(&sql, &["public.*"]).await;
        let [refused] = &found.rejected[..] else { panic!("{of_table}: {:?}", found.rejected) };
        let advice = refused.error.advice().unwrap_or_default().to_owned();
        assert!(
            refused.error.code() == codes::PG008 && refused.error.message().contains(words),
            "{}",
            refused.error.report()
        );
        server.sql(&advice);
        let found = catalog(&sql, &["public.*"]).await;
        assert!(found.rejected.is_empty(), "{advice}: {:?}", found.rejected);
    }
    server.sql("alter publication p set table t where (id > 1); alter publication p_insert set table t");
    let found = catalog(&sql, &["public.t"]).await;
    let two =
        publication::ensure(&sql, &options, &found.tables, publication::Second::Make).await.unwrap_err();
    assert!(two.code() == codes::PG007 && two.message().contains("row filter"), "{}", two.report());
    server.sql(two.advice().unwrap());
    publication::check(&sql, &options, &found.tables, publication::Second::Make).await.told();
}

/// From 18 on generated columns can be published; where whole old rows are logged, they must be.
#[tokio::test]
async fn generated_columns_are_taken_where_they_are_published() {
    if crate::server::major() < 18 {
        return;
    }
    let server = Server::start("");
    server.sql(
        "create table t(id int primary key, s int generated always as (id * 2) stored, v int generated always as (id * 3));
         create table keyed(id int, k int generated always as (id + 1) stored primary key);
         create table whole(id int primary key, s int generated always as (id * 2) stored);
         alter table whole replica identity full;
         create publication p with (publish_via_partition_root = true)",
    );
    let mut options = server.options();
    options.publication = "p".to_owned();
    let sql = sql(&options).await;
    let look = |found: &cat::Catalog| {
        let of = |t: &cat::SourceTable| {
            t.schema.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(" ")
        };
        let mut all: Vec<String> =
            found.tables.iter().map(|t| format!("{}: {}", t.name().table, of(t))).collect();
        all.extend(found.rejected.iter().map(|r| format!("{}: {}", r.name.table, r.error.code().id)));
        all.sort();
        all
    };
    let found = catalog(&sql, &["public.*"]).await;
    assert_eq!(look(&found), ["keyed: PG008", "t: id", "whole: PG008"]);
    for rejected in &found.rejected {
        let advice = rejected.error.advice().unwrap_or_default();
        assert!(advice.contains("publish_generated_columns = stored"), "{}", rejected.error.report());
    }
    server.sql("alter publication p set (publish_generated_columns = stored)");
    let found = catalog(&sql, &["public.*"]).await;
    assert_eq!(look(&found), ["keyed: id k", "t: id s", "whole: id s"]);
    publication::ensure(&sql, &options, &found.tables, publication::Second::Make).await.told();
    server.sql("insert into whole values (1); update whole set id = 2; delete from whole");
    // A list says it by name, whatever the publication says.
    server.sql(
        "alter publication p set (publish_generated_columns = none); alter publication p set table t (s, id)",
    );
    assert_eq!(look(&catalog(&sql, &["public.t"]).await), ["t: id s"]);
    // No publication has virtual ones.
    server.sql("create table never(id int primary key, v int generated always as (id)); alter table never replica identity full");
    assert_eq!(look(&catalog(&sql, &["public.never"]).await), ["never: PG008"]);
}

#[tokio::test]
async fn where_we_may_not_the_owner_is_told_what_to_run() {
    let server = Server::start("");
    server.sql(
        "create role owner login; create role cdc login replication; grant create on database postgres to owner;
         create schema s authorization owner;
         set role owner; create table s.t(id int primary key); grant usage on schema s to cdc;
         grant select on s.t to cdc;",
    );
    let cdc = server.options_of("cdc", "");
    let sql_cdc = sql(&cdc).await;
    let found = catalog(&sql_cdc, &["s.*"]).await;
    let error =
        publication::ensure(&sql_cdc, &cdc, &found.tables, publication::Second::Make).await.unwrap_err();
    assert_eq!(error.code(), codes::PG007);
    assert!(error.message().contains("owner") && error.message().contains("CREATE"), "{}", error.report());
    server.sql(&format!("set role owner; {}", error.advice().unwrap()));
    publication::ensure(&sql_cdc, &cdc, &found.tables, publication::Second::Make).await.told();

    // The whole set-up, twice, as a superuser, for a role that does not exist yet.
    let admin = sql(&server.options()).await;
    let mut fresh = server.options();
    fresh.publication = "fresh".to_owned();
    for _ in 0..2 {
        let found = catalog(&admin, &["s.*"]).await;
        let steps = setup::render(&admin, &fresh, "new \"role'", &found.tables).await.told();
        assert_eq!(steps.len(), 3);
        assert!(setup::script(&steps).contains("-- 0001_role.sql"));
        setup::run(&admin, &steps).await.told();
    }
    let installed = "select (select count(*) from pg_trigger where not tgisinternal) + (select count(*) from pg_event_trigger) \
         + (select count(*) from pg_proc p join pg_namespace n on n.oid = p.pronamespace \
            where n.nspname not in ('pg_catalog', 'information_schema')) \
         + (select count(*) from pg_extension where extname <> 'plpgsql')";
    assert_eq!(server.sql(installed), "0", "nothing that runs is left on the server");
    fresh.user = "new \"role'".to_owned();
    let as_role = sql(&fresh).await;
    let found = catalog(&as_role, &["s.*"]).await;
    publication::check(&as_role, &fresh, &found.tables, publication::Second::Make).await.told();
    slot::create(&fresh, &as_role, SlotKind::Temporary, PATIENCE).await.told().release().await.told();
}

#[tokio::test]
async fn slots_are_made_looked_at_and_refused() {
    let server = Server::start("max_prepared_transactions=5");
    server.sql("create table t(id int primary key)");
    let options = server.options();
    let sql = sql(&options).await;
    assert_eq!(slot::inspect(&sql, &options.slot).await.told(), None);
    let made = slot::create(&options, &sql, SlotKind::Permanent, PATIENCE).await.told();
    let state = slot::inspect(&sql, &options.slot).await.told().unwrap();
    state.check_usable(&options).told();
    assert_eq!(state.confirmed_flush, Some(made.point.lsn()));
    made.release().await.told();
    let point = slot::identify(&options).await.told();
    assert_eq!(point.lineage.system_id, server.sql("select system_identifier from pg_control_system()"));
    assert_eq!((point.lineage.timeline, point.lineage.database.as_str()), (1, "postgres"));

    // A temporary one goes with its connection.
    let temporary = slot::create(&options, &sql, SlotKind::Temporary, PATIENCE).await.told();
    assert_eq!(server.sql("select count(*) from pg_replication_slots where temporary"), "1");
    temporary.release().await.told();
    assert_eq!(server.sql("select count(*) from pg_replication_slots where temporary"), "0");

    // An open transaction holds it up, and is named.
    let mut writer = strandline::source::postgres::wire::Wire::connect(
        &options,
        strandline::source::postgres::wire::Purpose::Query,
    )
    .await
    .told();
    writer.simple_query("begin; insert into public.t values (1)").await.told();
    let pid = writer.session().pid;
    let blocked = slot::create(&options, &sql, SlotKind::Temporary, Duration::from_millis(300)).await;
    let text = blocked.map(|_| ()).unwrap_err().report();
    assert!(text.contains("PG013") && text.contains(&format!("process {pid} ")), "{text}");
    writer.simple_query("prepare transaction 'mine'").await.told();
    let blocked = slot::create(&options, &sql, SlotKind::Temporary, Duration::from_millis(300)).await;
    let text = blocked.map(|_| ()).unwrap_err().report();
    assert!(text.contains("prepared transaction 'mine'"), "{text}");
    server.sql("rollback prepared 'mine'");
    // The refused attempts left nothing behind: their sessions may take a moment to end.
    slot::create(&options, &sql, SlotKind::Temporary, PATIENCE).await.told().release().await.told();

    for (make, word) in [
        ("pg_create_logical_replication_slot('bad','pgoutput',false,true)", "two_phase"),
        ("pg_create_logical_replication_slot('bad','test_decoding')", "test_decoding"),
        ("pg_create_physical_replication_slot('bad')", "physical"),
    ] {
        server.sql(&format!("select {make}"));
        let mut other = options.clone();
        other.slot = "bad".to_owned();
        let state = slot::inspect(&sql, "bad").await.told().unwrap();
        let error = state.check_usable(&other).unwrap_err();
        assert!(error.code() == codes::PG013 && error.message().contains(word), "{}", error.report());
        slot::drop_slot(&sql, "bad").await.told();
    }
    let mut elsewhere = options.clone();
    elsewhere.database = "other".to_owned();
    let error =
        slot::inspect(&sql, &options.slot).await.told().unwrap().check_usable(&elsewhere).unwrap_err();
    assert!(error.message().contains("belongs to database \"postgres\""), "{}", error.report());
    // Only the exact name.
    slot::drop_slot(&sql, "strandline%").await.told();
    assert!(slot::inspect(&sql, &options.slot).await.told().is_some());
}

#[tokio::test]
async fn preflight_finds_everything_at_once() {
    let server = Server::start("wal_level=replica\nmax_replication_slots=0\nmax_wal_senders=3");
    server.sql(
        "create table k(a int); create table arr(id int primary key, v aclitem[]); create role poor login;
                grant select on k, arr to poor",
    );
    let options = server.options_of("poor", "");
    let sql = sql(&options).await;
    let selection = Selection::parse(&["public.*"], &[]).told();
    let found = cat::load(&sql, &selection, &Policies::default()).await.told();
    let findings = preflight::inspect(&sql, &options, &selection, &found).await.told();
    let bad: Vec<&str> = findings.iter().filter(|f| f.verdict == Verdict::Stops).map(|f| f.code.id).collect();
    assert_eq!(bad, ["PG002", "PG003", "PG004"], "{findings:#?}");
    assert!(findings.iter().any(|f| f.code == codes::PG020 && f.verdict == Verdict::StopsTable));
    assert!(findings.iter().any(|f| f.code == codes::PG008 && f.verdict == Verdict::Warning));
    assert!(
        findings.iter().filter(|f| f.verdict != Verdict::Good).all(|f| f.advice.is_some()),
        "{findings:#?}"
    );
    let error = preflight::stopping(&findings).unwrap();
    assert!(error.message().contains("PG003") && error.message().contains("PG004"), "{}", error.report());
    let none = Selection::parse(&["nowhere.*"], &[]).told();
    let found = cat::load(&sql, &none, &Policies::default()).await.told();
    let findings = preflight::inspect(&sql, &options, &none, &found).await.told();
    assert!(findings.iter().any(|f| f.code == codes::PG009 && f.verdict == Verdict::Stops));
}
