-- What the application asks of a home before its first statement there.

-- demand refuses a home that is behind: the newest migration of the schema is older than p_version, the one that the application
-- was written for. It sees what is committed when it runs, or when its transaction began that reads from one snapshot. As its
-- definer, because the application cannot read the versions.
create or replace function landlord.demand(p_schema name, p_version bigint) returns void
    language plpgsql stable security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_have bigint;
begin
    select v.version into v_have from landlord.schema_version v where v.schema = p_schema order by v.version desc limit 1;
    if coalesce(v_have, 0) < p_version then
        raise exception 'the application asks for version % of the home''s tables, which have version %', p_version, coalesce(v_have, 0)
            using errcode = 'LL006', hint = 'landlord migrate up brings them there.';
    end if;
end $$;
