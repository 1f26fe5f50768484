-- Since when the database knows a seal key, so that somebody notices one that has never been changed. For keys from before this table
-- that is the time of the upgrade: they are at least so old. It is no column of seal_key, which open transactions have read: an upgrade
-- would wait for them, and everybody else behind it.
create table landlord.seal_key_age (
    kid         int         primary key,
    known_since timestamptz not null default now()
);
insert into landlord.seal_key_age (kid) select kid from landlord.seal_key;
