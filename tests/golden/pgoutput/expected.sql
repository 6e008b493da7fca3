-- What the tests must find in each Arrow column, in the server's words: floats as their bits, dates and
-- timestamps as days and microseconds since 1970-01-01, bytea in hexadecimal, all other types as text.
select id, flag::text, small, whole, big, encode(float4send(single), 'hex'), encode(float8send(double), 'hex'),
    amount, wide, tiny, round, huge, free,
    to_json(note), to_json(short), to_json(padded), to_json(ident::text), to_json(feeling::text),
    to_json(doc::text), to_json(docb::text), encode(raw, 'hex'), uid,
    day - date '1970-01-01', clock,
    trunc(extract(epoch from moment) * 1000000), trunc(extract(epoch from instant) * 1000000)
from types order by id
