-- Mode plain: the tenant stands in an ordinary transaction-local setting. It stops forgotten filters, not injected SQL.

create or replace function landlord.sealed_tenant() returns text
    language sql stable parallel safe
    return nullif(pg_catalog.current_setting('landlord.tenant', true), '');

create or replace function landlord.tenant() returns text
    language sql stable parallel safe
    return case when pg_catalog.current_setting('landlord.tenant', true) <> ''
        then pg_catalog.current_setting('landlord.tenant', true)
        else landlord.no_tenant() end;

create or replace function landlord.seal_ok(p_tenant text, p_home text, p_kid int, p_exp bigint, p_mac bytea)
    returns boolean
    language sql immutable parallel safe
    return p_tenant <> '';

create or replace function landlord.seal(p_tenant text, p_home text, p_kid int, p_exp bigint, p_mac bytea) returns text
    language sql volatile
    return pg_catalog.set_config('landlord.tenant', p_tenant, true);
