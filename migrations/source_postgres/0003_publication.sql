-- What the server publishes: these tables, partitions as their root. A table without a key is published for
-- inserts and truncates only, because publishing its updates would make the application's UPDATE fail.
-- Made from what the server has now; nothing follows when the publications cover the tables already.
-- Needs CREATE on the database and the tables' owner. No table, trigger or function is made on the source:
-- heartbeats are logical messages.
{{publication_statements}}
