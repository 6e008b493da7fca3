-- 100,000 rows: 20,000 customers, 1,000 products, 30,000 orders, 49,000 order items.
create table customers (
    id         bigint primary key,
    name       text not null,
    email      text not null,
    balance    numeric(12, 2) not null,
    active     boolean not null,
    notes      text,
    changed_at timestamptz not null
);
-- Values that are stored out of line and that the log does not repeat when other columns change.
alter table customers alter column notes set storage external;

create table products (
    code   text primary key,
    title  text not null,
    price  numeric(10, 2) not null,
    weight double precision,
    tags   jsonb
);

create table orders (
    id          bigint primary key,
    customer_id bigint not null references customers,
    status      text not null,
    total       numeric(14, 2) not null,
    ordered_on  date not null,
    changed_at  timestamp not null
);

create table order_items (
    order_id bigint,
    line     int,
    product  text not null references products on update cascade,
    quantity int not null,
    price    numeric(10, 2) not null,
    primary key (order_id, line),
    foreign key (order_id) references orders on update cascade on delete cascade
);

insert into customers
select i, 'customer ' || i, 'c' || i || '@example.org', (i % 1000) / 7.0, i % 5 <> 0,
       case when i % 20 = 0 then repeat(md5(i::text), 100) end, timestamptz '2024-01-01' + i * interval '1 minute'
from generate_series(1, 20000) i;

insert into products
select 'P-' || i, 'product ' || i, i / 3.0, case when i % 10 > 0 then sqrt(i) end,
       jsonb_build_object('size', i % 4, 'colour', (array['red', 'green', 'blue'])[1 + i % 3])
from generate_series(1, 1000) i;

insert into orders
select i, 1 + (i * 7919) % 20000, (array['new', 'paid', 'sent'])[1 + i % 3], i / 11.0,
       date '2024-01-01' + i % 365, timestamp '2024-01-01' + i * interval '1 minute'
from generate_series(1, 30000) i;

insert into order_items
select o, l, 'P-' || (1 + (o * 31 + l) % 1000), 1 + o % 9, (o % 500) / 3.0
from generate_series(1, 30000) o, generate_series(1, 2) l
where l = 1 or o <= 19000;
