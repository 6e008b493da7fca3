//! Integration tests: real PostgreSQL, the real binary, Delta tables read by readers that are not ours.
//!
//! One file per behaviour, so that the list of files reads as what the product does. `docs/TESTING.md`
//! says how to run one test, keep its files and repeat a seed.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
#![expect(clippy::print_stdout, reason = "seeds and counts are shown")]

mod alerts;
mod bad_input;
mod bank;
mod canary;
mod column_mapping;
mod ddl;
mod doctor;
mod every_type;
mod face;
mod failover;
mod feed;
mod foreign;
mod golden;
mod harness;
mod health;
mod kafka;
mod kafka_avro;
mod kafka_control;
mod kafka_large;
mod kafka_security;
mod keyless;
mod kill;
mod large;
mod limits;
mod loss;
mod messages;
mod modes;
mod mysql_basic;
mod mysql_cases;
mod mysql_charsets;
mod mysql_checks;
mod mysql_commands;
mod mysql_ddl;
mod mysql_encrypted;
mod mysql_gauges;
mod mysql_images;
mod mysql_kafka;
mod mysql_kill;
mod mysql_large;
mod mysql_loss;
mod mysql_resume;
mod mysql_selftest;
mod mysql_statements;
mod mysql_types;
mod mysql_workload;
mod mysql_xa;
mod object_store;
mod odd;
mod operate;
mod optimize;
mod origin;
mod package;
mod page;
mod partitions;
mod pg_cases;
mod pg_edges;
mod random_mysql;
mod random_postgres;
mod readers;
mod resume;
mod resync;
mod resync_incremental;
mod resync_resume;
mod selftest;
mod slot;
mod source_safe;
mod stdout;
mod target;
mod teardown;
mod throttle;
mod types;
mod until;
mod verify;
mod wire_ack;
mod workload;
mod zombie;
