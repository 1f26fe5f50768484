-- Runs that take migrations back.

-- +goose Up

-- Homes above the version newest are brought down to it.
alter table landlord.runs add column down boolean not null default false;

-- Takes an instance's sign of life. As its definer, because a service's login only reads the catalog. It holds the gate while it
-- looks, so that nobody comes in while the gate is being opened, or a run down begun. While homes are brought down an application
-- that was written for more does not begin: it would find a home as it wants it, and then not any more.
-- +goose StatementBegin
create function landlord.beat(p_id uuid, p_name text, p_schema_version bigint) returns void
language plpgsql volatile security definer set search_path = '' as $$
declare
    v_needs bigint;
    v_newest bigint;
begin
    select g.needs into v_needs from landlord.gate g for share;
    if p_schema_version > 0 and p_schema_version < v_needs then
        raise exception 'the application is written for version % of its tables, and the fleet has left that behind', p_schema_version
            using errcode = 'LL010', hint = pg_catalog.format('It has to be written for version %s at least.', v_needs);
    end if;
    select r.newest into v_newest from landlord.runs r where r.down and r.state in ('running', 'paused', 'halted');
    if p_schema_version > v_newest then
        raise exception 'the application is written for version % of its tables, and the fleet is being brought down to %',
            p_schema_version, v_newest
            using errcode = 'LL006', hint = 'Start one that is written for that version, or wait until landlord migrate up is over.';
    end if;
    insert into landlord.instances as i (id, name, schema_version) values (p_id, p_name, p_schema_version)
        on conflict (id) do update set seen_at = pg_catalog.clock_timestamp();
end
$$;
-- +goose StatementEnd
