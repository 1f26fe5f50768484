-- seal_ok checks a token: HMAC-SHA256 over the tenant, the home, what the token is bound to, and its expiry (seconds since
-- 1970). Each text is led by its length, so that no two lists read the same. Bound to this backend for at most a minute,
-- or, behind a pooler that hides the backend, to nothing but at most ten seconds.
create or replace function landlord.seal_ok(p_tenant text, p_home text, p_kid int, p_exp bigint, p_mac bytea)
    returns boolean
    language plpgsql stable
as $$
declare
    v_now  constant numeric := extract(epoch from clock_timestamp());
    v_ipad bytea;
    v_opad bytea;
begin
    if (p_exp between v_now and v_now + 60) is not true then
        return false;
    end if;
    select ipad, opad into v_ipad, v_opad
      from landlord.seal_key where kid = p_kid and not_after > clock_timestamp();
    if not found then
        return false;
    end if;
    return sha256(v_opad || sha256(v_ipad || landlord.token_text(p_tenant, p_home, pg_backend_pid(), p_exp))) = p_mac
        or p_exp <= v_now + 10
           and sha256(v_opad || sha256(v_ipad || landlord.token_text(p_tenant, p_home, 0, p_exp))) = p_mac;
end $$;

create or replace function landlord.token_text(p_tenant text, p_home text, p_pid int, p_exp bigint) returns bytea
    language sql stable parallel safe
    return pg_catalog.convert_to(pg_catalog.concat('landlord1|', pg_catalog.octet_length(p_tenant), ':', p_tenant, '|',
        pg_catalog.octet_length(p_home), ':', p_home, '|', p_pid, '|', p_exp), 'UTF8');
