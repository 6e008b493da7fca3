-- The workload: `call demo.step(client)` is one source transaction with random changes. The tables of the
-- schema demo are not replicated.
create schema demo;
create table demo.steps (client int primary key, n bigint not null);
insert into demo.steps values (1, 0), (2, 0);
create sequence demo.new_id start 1000000;

create function demo.any_order() returns bigint language sql as
$$ select id from public.orders where id >= (random() * 30000)::bigint order by id limit 1 $$;

create procedure demo.step(client int) language plpgsql as
$$
declare
    dice int := floor(random() * 100);
    fresh bigint;
    old bigint;
begin
    update demo.steps set n = n + 1 where steps.client = step.client;
    if dice < 30 then                                    -- a new order with its items
        fresh := nextval('demo.new_id');
        insert into public.orders
        values (fresh, 1 + floor(random() * 20000), 'new', round((random() * 1000)::numeric, 2), current_date, localtimestamp);
        insert into public.order_items
        select fresh, l, 'P-' || (1 + floor(random() * 900))::int, 1 + floor(random() * 5), round((random() * 100)::numeric, 2)
        from generate_series(1, 1 + floor(random() * 4)::int) l;
    elsif dice < 60 then                                 -- change a customer, its long notes untouched
        update public.customers set balance = balance + round((random() * 10)::numeric, 2), changed_at = now()
        where id = 1 + floor(random() * 20000);
    elsif dice < 70 then                                 -- new long notes
        update public.customers set notes = repeat(md5(random()::text), 50 + floor(random() * 100)::int)
        where id = 1 + floor(random() * 20000);
    elsif dice < 80 then                                 -- move a key; the items follow by cascade
        old := demo.any_order();
        update public.orders set id = nextval('demo.new_id'), changed_at = localtimestamp where id = old;
    elsif dice < 90 then                                 -- delete, sometimes insert the same key again
        old := demo.any_order();
        delete from public.orders where id = old;
        if old is not null and random() < 0.5 then
            insert into public.orders values (old, 1, 'again', 0, current_date, localtimestamp);
        end if;
    elsif dice < 97 then                                 -- pay an order
        old := demo.any_order();
        update public.orders set status = 'paid' where id = old;
        update public.order_items set quantity = quantity + 1 where order_id = old;
    else                                                 -- many rows at once
        update public.products set price = price + 0.01 where code like 'P-' || floor(random() * 10)::int || '%';
    end if;
exception
    when serialization_failure or deadlock_detected or foreign_key_violation then null;   -- the next step is another one
end
$$;
