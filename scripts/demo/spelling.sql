-- The expressions that spell a table's columns canonically, in order; see tests/it/harness/compare.rs.
select string_agg(
    case format_type(atttypid, null)
        when 'real' then format('encode(float4send(%I), ''hex'')', attname)
        when 'double precision' then format('encode(float8send(%I), ''hex'')', attname)
        when 'bytea' then format('encode(%I, ''hex'')', attname)
        when 'date' then format('(%I - date ''1970-01-01'')::text', attname)
        when 'timestamp without time zone' then format('(extract(epoch from %I) * 1000000)::bigint::text', attname)
        when 'timestamp with time zone' then format('(extract(epoch from %I) * 1000000)::bigint::text', attname)
        else format('%I::text', attname)
    end, ', ' order by attnum)
from pg_attribute
where attrelid = ('public.' || :'table')::regclass and attnum > 0 and not attisdropped;
