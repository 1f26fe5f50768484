-- Functions and procedures of the application, and what a mode has taken away of PostgreSQL's own.
select 'definer-callable' as rule, p.oid::regprocedure::text as object, 'by ' || c.who || ', as ' || w.name as detail,
       array['revoke all on routine ' || p.oid::regprocedure || ' from ' || c.who] as fix
  from routine p join callable c on c.oid = p.oid and c.reaches join who w on w.oid = p.proowner
 where p.prosecdef and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)
union all
select 'definer-search-path', p.oid::regprocedure::text, null,
       array['alter routine ' || p.oid::regprocedure || ' set search_path = ' || quote_ident(p.nspname) || ', pg_temp']
  from routine p
 where p.prosecdef and not p.bound
   and not exists (select from unnest(p.proconfig) c where c ~ '^search_path=(.*, *)?"?pg_temp"?$')
union all
select 'definer-powerful', p.oid::regprocedure::text, 'it runs as ' || w.name, array['alter routine ' || p.oid::regprocedure || ' owner to landlord_owner']
  from routine p join who w on w.oid = p.proowner and w.bypasses
 where p.prosecdef
union all
select 'function-leakproof', p.oid::regprocedure::text, null, array['alter function ' || p.oid::regprocedure || ' not leakproof']
  from routine p where p.proleakproof
union all
select 'function-public', p.oid::regprocedure::text, null,
       array['revoke all on routine ' || p.oid::regprocedure || ' from public',
             'grant execute on routine ' || p.oid::regprocedure || ' to ' || quote_ident($1) || ', landlord_admin']
  from routine p join callable c on c.oid = p.oid and c.who = 'public'
 where p.home and not p.prosecdef
union all
select 'grant-stranger', p.oid::regprocedure::text, c.who || ' can execute it', array['revoke all on routine ' || p.oid::regprocedure || ' from ' || c.who]
  from routine p join callable c on c.oid = p.oid and not c.reaches
 where p.home
union all
select 'owner', p.oid::regprocedure::text, 'it belongs to ' || w.name, array['alter routine ' || p.oid::regprocedure || ' owner to landlord_owner']
  from routine p join who w on w.oid = p.proowner
 where p.home and p.proowner not in (select oid from owner) and p.proowner not in (select oid from member)
   and not (p.prosecdef and w.bypasses)
union all
select 'mode-weakened', p.oid::regprocedure::text, 'by ' || w.name, array['revoke execute on function ' || p.oid::regprocedure || ' from ' || w.name]
  from pg_proc p cross join aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x join who w on w.oid = x.grantee
 where p.pronamespace = 'pg_catalog'::regnamespace and x.grantee in (select oid from reached)
   and case $4
       when 'locked' then p.prosrc = 'set_config_by_name'
       when 'sealed' then p.proname ~ '^pg_(try_)?advisory_(xact_)?(un)?lock|^lo_'
           or p.proname in ('loread', 'lowrite', 'pg_cancel_backend', 'pg_terminate_backend') end
union all
select 'mode-weakened', 'language ' || quote_ident(l.lanname), 'by ' || w.name, array['revoke usage on language ' || quote_ident(l.lanname) || ' from ' || w.name]
  from pg_language l cross join aclexplode(coalesce(l.lanacl, acldefault('l', l.lanowner))) x join who w on w.oid = x.grantee
 where $4 = 'sealed' and l.lanname = 'plpgsql' and x.grantee in (select oid from reached)
union all
-- What initdb did not grant. pg_init_privs knows the privileges that PostgreSQL and its extensions began with.
select 'catalog-grant', s.object, s.who || ' has ' || string_agg(distinct lower(s.privilege), ', '), array['revoke all on ' || s.kind || s.object || ' from ' || s.who]
  from (select 'table ' as kind, quote_ident(n.nspname) || '.' || quote_ident(c.relname) as object, w.name as who, x.privilege_type as privilege
          from pg_class c join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'pg_catalog'
          left join pg_init_privs i on i.classoid = 'pg_class'::regclass and i.objoid = c.oid and i.objsubid = 0
          cross join lateral (
            select grantee, privilege_type from aclexplode(c.relacl)
            except
            select grantee, privilege_type from aclexplode(coalesce(i.initprivs, acldefault('r', c.relowner)))) x
          join who w on w.oid = x.grantee
         where c.relacl is not null and x.grantee in (select oid from reached)
        union all
        select 'function ', p.oid::regprocedure::text, w.name, x.privilege_type
          from pg_proc p
          left join pg_init_privs i on i.classoid = 'pg_proc'::regclass and i.objoid = p.oid and i.objsubid = 0
          cross join lateral (
            select grantee, privilege_type from aclexplode(p.proacl)
            except
            select grantee, privilege_type from aclexplode(coalesce(i.initprivs, acldefault('f', p.proowner)))) x
          join who w on w.oid = x.grantee
         where p.pronamespace = 'pg_catalog'::regnamespace and p.proacl is not null and x.grantee in (select oid from reached)) s
 group by s.kind, s.object, s.who
