-- One column of each type that is supported, in the order in which the tests expect them.
create type mood as enum ('calm', 'wild');
create table types (
    id bigint primary key,
    flag boolean, small smallint, whole integer, big bigint, single real, double double precision,
    amount numeric(12,2), wide numeric(38,10), tiny numeric(3,5), round numeric(2,-3), huge numeric(50,5), free numeric,
    note text, short varchar(20), padded char(5), ident name, feeling mood,
    doc json, docb jsonb, raw bytea, uid uuid,
    day date, clock time, moment timestamp, instant timestamptz
);
create table keyed (id bigint primary key, note text, big text);
alter table keyed alter big set storage external;
create table whole (id bigint primary key, note text, big text);
alter table whole alter big set storage external;
alter table whole replica identity full;
create table big_rows (id bigint primary key, big text);
create publication p for table types, keyed, whole, big_rows (id);
