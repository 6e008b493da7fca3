-- What strandline may read: these tables and no others.
-- Idempotent. Needs the tables' owner or a superuser.
GRANT CONNECT ON DATABASE {{database}} TO {{role}};
{{table_grants}}
