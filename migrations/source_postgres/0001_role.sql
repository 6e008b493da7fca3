-- The role that strandline logs in as: login and replication, nothing else. No password is set here:
-- set one with \password, or let pg_hba.conf trust a certificate.
-- Idempotent. Needs a superuser, or on RDS and Aurora a member of rds_superuser.
DO $strandline$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {{role_literal}}) THEN
        CREATE ROLE {{role}} LOGIN;
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'rds_replication') THEN
        GRANT rds_replication TO {{role}};
    ELSIF NOT EXISTS (SELECT FROM pg_catalog.pg_roles
                      WHERE rolname = {{role_literal}} AND (rolreplication OR rolsuper)) THEN
        ALTER ROLE {{role}} REPLICATION;
    END IF;
END
$strandline$;
