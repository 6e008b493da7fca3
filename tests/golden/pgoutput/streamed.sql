-- Changes beyond logical_decoding_work_mem are streamed before the commit. The publication names one column
-- only, so that the messages stay short. The last row is there to flush the rollback before it.
begin;
insert into big_rows select i, repeat('x', 1000) from generate_series(1, 60) i;
savepoint s;
insert into big_rows select i, repeat('x', 1000) from generate_series(101, 170) i;
rollback to s;
insert into big_rows select i, repeat('x', 1000) from generate_series(201, 202) i;
commit;
begin;
insert into big_rows select i, repeat('x', 1000) from generate_series(301, 370) i;
rollback;
insert into big_rows values (1000, null);
