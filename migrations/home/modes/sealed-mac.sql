-- Mode sealed-mac: the tenant stands in an ordinary setting together with its token, and the token is checked in every
-- statement. Stops what sealed stops, needs no superuser, and costs an HMAC per statement.

-- checked_tenant returns the tenant of a valid token, null otherwise. The token must have been valid when the
-- transaction began, which nobody can forge; so a long transaction does not lose its tenant.
create or replace function landlord.checked_tenant(p_token text) returns text
    language plpgsql stable parallel restricted security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_part   text[];
    v_tenant text;
    v_home   text;
    v_exp    bigint;
    v_start  constant numeric := extract(epoch from transaction_timestamp());
    v_ipad   bytea;
    v_opad   bytea;
    v_mac    bytea;
begin
    if p_token is null or p_token !~ '^[0-9a-f]+\.[0-9a-f]+\.[0-9]{1,9}\.[0-9]{1,12}\.[0-9a-f]{64}$' then
        return null;
    end if;
    v_part   := string_to_array(p_token, '.');
    v_tenant := convert_from(decode(v_part[1], 'hex'), 'UTF8');
    v_home   := convert_from(decode(v_part[2], 'hex'), 'UTF8');
    v_exp    := v_part[4]::bigint;
    v_mac    := decode(v_part[5], 'hex');
    if v_exp not between v_start - 1 and v_start + 61 then
        return null;
    end if;
    select ipad, opad into v_ipad, v_opad
      from landlord.seal_key where kid = v_part[3]::int and not_after > transaction_timestamp();
    if not found then
        return null;
    end if;
    if sha256(v_opad || sha256(v_ipad || landlord.token_text(v_tenant, v_home, pg_backend_pid(), v_exp))) = v_mac
        or v_exp <= v_start + 11
           and sha256(v_opad || sha256(v_ipad || landlord.token_text(v_tenant, v_home, 0, v_exp))) = v_mac
    then
        return v_tenant;
    end if;
    return null;
end $$;

create or replace function landlord.sealed_tenant() returns text
    language sql stable parallel restricted
    return landlord.checked_tenant(nullif(pg_catalog.current_setting('landlord.token', true), ''));

create or replace function landlord.tenant() returns text
    language sql stable parallel restricted
    return coalesce(landlord.checked_tenant(nullif(pg_catalog.current_setting('landlord.token', true), '')),
        landlord.no_tenant());

create or replace function landlord.seal(p_tenant text, p_home text, p_kid int, p_exp bigint, p_mac bytea) returns text
    language sql volatile
    return pg_catalog.set_config('landlord.token', pg_catalog.concat_ws('.',
        pg_catalog.encode(pg_catalog.convert_to(p_tenant, 'UTF8'), 'hex'),
        pg_catalog.encode(pg_catalog.convert_to(p_home, 'UTF8'), 'hex'),
        p_kid, p_exp, pg_catalog.encode(p_mac, 'hex')), true);
