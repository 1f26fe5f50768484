-- Roles and what else belongs to the whole server.
select 'role-powerful' as rule, 'role ' || w.name as object,
       concat_ws(' ', case when r.rolsuper then 'superuser' end, case when r.rolbypassrls then 'bypassrls' end, case when r.rolcreaterole then 'createrole' end,
           case when r.rolcreatedb then 'createdb' end, case when r.rolreplication then 'replication' end) as detail,
       array['alter role ' || w.name || concat_ws(' ', '', case when r.rolsuper then 'nosuperuser' end, case when r.rolbypassrls then 'nobypassrls' end,
           case when r.rolcreaterole then 'nocreaterole' end, case when r.rolcreatedb then 'nocreatedb' end, case when r.rolreplication then 'noreplication' end)] as fix
  from pg_roles r join login on login.oid = r.oid join who w on w.oid = r.oid
 where r.rolsuper or r.rolbypassrls or r.rolcreaterole or r.rolcreatedb or r.rolreplication
union all
select 'role-powerful', 'role ' || r.rolname,
       concat_ws(' ', case when r.rolsuper then 'superuser' end, case when r.rolcreaterole then 'createrole' end, case when r.rolcreatedb then 'createdb' end,
           case when r.rolreplication then 'replication' end, case when r.rolbypassrls and g.nologin then 'bypassrls' end, case when r.rolcanlogin and g.nologin then 'login' end),
       array['alter role ' || r.rolname || concat_ws(' ', '', case when r.rolsuper then 'nosuperuser' end, case when r.rolcreaterole then 'nocreaterole' end,
           case when r.rolcreatedb then 'nocreatedb' end, case when r.rolreplication then 'noreplication' end,
           case when r.rolbypassrls and g.nologin then 'nobypassrls' end, case when r.rolcanlogin and g.nologin then 'nologin' end)]
  from pg_roles r join (values ('landlord_guard', true), ('landlord_owner', true), ('landlord_admin', false), ('landlord_migrator', false)) as g (name, nologin) on g.name = r.rolname
 where r.rolname <> $1
   and (r.rolsuper or r.rolcreaterole or r.rolcreatedb or r.rolreplication or g.nologin and (r.rolbypassrls or r.rolcanlogin))
union all
select 'role-member', 'role ' || m.name, 'it can become ' || g.name, array['revoke ' || g.name || ' from ' || m.name]
  from pg_auth_members a join who m on m.oid = a.member join who g on g.oid = a.roleid
 where a.member in (select oid from member)
union all
select 'guard-member', 'role ' || g.name, m.name || ' can become it', array['revoke ' || g.name || ' from ' || m.name]
  from pg_auth_members a join pg_roles r on r.oid = a.roleid join who g on g.oid = a.roleid join who m on m.oid = a.member join pg_roles mr on mr.oid = a.member
 where r.rolname in ('landlord_guard', 'landlord_owner', 'landlord_admin', 'landlord_migrator')
   and not mr.rolsuper and not mr.rolcreaterole and mr.rolname <> current_user and a.member not in (select oid from member)
   and not (r.rolname = 'landlord_owner' and mr.rolname = 'landlord_migrator')
union all
select 'role-owns', s.object, 'it belongs to ' || w.name, array['alter ' || s.object || ' owner to landlord_owner']
  from (select case r.relkind when 'v' then 'view ' when 'm' then 'materialized view ' when 'f' then 'foreign table ' when 'S' then 'sequence ' else 'table ' end
                   || r.name as object, r.relowner as owner
          from rel r
        union all
        select 'schema ' || quote_ident(nspname), nspowner from space
        union all
        select 'routine ' || p.oid::regprocedure, p.proowner from routine p
        union all
        select 'database ' || quote_ident(datname), datdba from pg_database where datname = current_database()) s
  join who w on w.oid = s.owner
 where s.owner in (select oid from member)
union all
select 'role-setting', s.object || s.inside, c.setting, array['alter ' || s.object || s.inside || ' reset ' || split_part(c.setting, '=', 1)]
  from (select coalesce('role ' || w.name, case when d.setdatabase = 0 then 'role all' else 'database ' || quote_ident(current_database()) end) as object,
               case when w.name is not null and d.setdatabase <> 0 then ' in database ' || quote_ident(current_database()) else '' end as inside,
               d.setconfig
          from pg_db_role_setting d left join who w on w.oid = d.setrole and d.setrole <> 0
         where d.setrole in (select oid from reached) and d.setdatabase in (0, (select oid from pg_database where datname = current_database()))) s,
       unnest(s.setconfig) as c (setting)
 where c.setting ~* '^(row_security=off|role=|session_authorization=|session_replication_role=|search_path=|landlord\.|backtrace_functions=|[a-z_]*preload_libraries=|lo_compat_privileges=on)'
   and c.setting <> 'search_path=public, extensions, pg_temp'
union all
select 'parameter-grant', 'parameter ' || p.parname, w.name || ' has ' || lower(x.privilege_type), array['revoke ' || lower(x.privilege_type) || ' on parameter ' || p.parname || ' from ' || w.name]
  from pg_parameter_acl p cross join aclexplode(p.paracl) x join who w on w.oid = x.grantee join pg_roles o on o.oid = x.grantor
 where x.grantee in (select oid from reached)
    or p.parname = 'backtrace_functions' and w.name <> 'landlord_guard' and x.grantee not in (select oid from pg_roles where rolsuper)
union all
select 'prepared-possible', 'max_prepared_transactions', 'it is ' || s, array['alter system set max_prepared_transactions = 0 -- and restart the server']
  from current_setting('max_prepared_transactions') s where s <> '0'
union all
select 'server-old', 'PostgreSQL ' || split_part(current_setting('server_version'), ' ', 1), 'fixed in ' || f.version, null
  from current_setting('server_version_num') v
  join (values {fixed releases}) as f (major, number, version)
    on f.major = v::int / 10000 and v::int < f.number
