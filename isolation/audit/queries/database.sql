-- Schemas, the database, and what in it reaches across tenants.
select 'schema-create' as rule, 'schema ' || quote_ident(n.nspname) as object, 'by ' || w.name as detail,
       array['revoke create on schema ' || quote_ident(n.nspname) || ' from ' || w.name] as fix
  from pg_namespace n cross join aclexplode(n.nspacl) x join who w on w.oid = x.grantee
 where n.nspname !~ '^pg_(toast|temp)' and x.privilege_type = 'CREATE' and x.grantee in (select oid from reached) and x.grantee <> n.nspowner
union all
select 'schema-public', 'schema ' || quote_ident(n.nspname), null, array['revoke usage on schema ' || quote_ident(n.nspname) || ' from public']
  from pg_namespace n cross join aclexplode(n.nspacl) x
 where (n.nspname in ('landlord', 'extensions') or n.oid in (select oid from space where home)) and x.privilege_type = 'USAGE' and x.grantee = 0
union all
select case x.privilege_type when 'CREATE' then 'database-create' when 'TEMPORARY' then 'database-temp' else 'database-public' end,
       'database ' || quote_ident(d.datname), 'by ' || w.name,
       array['revoke ' || lower(x.privilege_type) || ' on database ' || quote_ident(d.datname) || ' from ' || w.name]
  from pg_database d cross join aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) x join who w on w.oid = x.grantee
 where d.datname = current_database() and x.grantee in (select oid from reached) and x.grantee <> d.datdba
   and (x.privilege_type <> 'CONNECT' or x.grantee = 0)
union all
select 'large-objects', 'large objects', count(*) || ' that the application can read', array['select lo_unlink(oid) from pg_largeobject_metadata -- once nobody needs them']
  from pg_largeobject_metadata l
 where l.lomowner in (select oid from member)
    or exists (select from aclexplode(l.lomacl) x where x.grantee in (select oid from reached))
having count(*) > 0
union all
select 'publication', 'publication ' || quote_ident(pubname), case when puballtables then 'of all tables' end, array['drop publication ' || quote_ident(pubname)]
  from pg_publication where pubname !~ '^landlord_'
union all
select 'prepared-transaction', 'transaction ' || quote_literal(gid), 'by ' || quote_ident(owner), array['rollback prepared ' || quote_literal(gid) || ' -- or commit prepared']
  from pg_prepared_xacts where database = current_database()
union all
select 'foreign-server', s.object, 'by ' || w.name, array['revoke all on ' || s.object || ' from ' || w.name]
  from (select 'foreign server ' || quote_ident(srvname) as object, srvowner as owner, srvacl as acl from pg_foreign_server
        union all
        select 'foreign data wrapper ' || quote_ident(fdwname), fdwowner, fdwacl from pg_foreign_data_wrapper) s
  cross join aclexplode(s.acl) x join who w on w.oid = x.grantee
 where x.grantee in (select oid from reached) and x.grantee <> s.owner
union all
select 'user-mapping', 'user mapping for ' || w.name || ' at server ' || quote_ident(m.srvname), null,
       array['drop user mapping for ' || w.name || ' server ' || quote_ident(m.srvname)]
  from pg_user_mappings m join who w on w.oid = m.umuser
 where m.umuser in (select oid from reached)
union all
select 'extension', 'extension ' || quote_ident(extname), null, array['drop extension ' || quote_ident(extname)]
  from pg_extension
 where extname in ('dblink', 'postgres_fdw', 'file_fdw', 'adminpack', 'plpython3u', 'plperlu', 'pltclu', 'xml2', 'pg_cron', 'lo')
union all
select case when w.oid in (select oid from reached) then 'default-grant' else 'grant-stranger' end, 'defaults of ' || r.name || coalesce(' in schema ' || quote_ident(n.nspname), ''),
       'what it makes later is given to ' || w.name,
       array['alter default privileges for role ' || r.name || coalesce(' in schema ' || quote_ident(n.nspname), '') || ' revoke all on '
           || case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions' when 'T' then 'types' else 'schemas' end || ' from ' || w.name]
  from pg_default_acl d join who r on r.oid = d.defaclrole left join pg_namespace n on n.oid = d.defaclnamespace
  cross join (select oid, name from who) w
 where exists (select from aclexplode(d.defaclacl) x where x.grantee = w.oid and x.grantee <> d.defaclrole)
   and d.defaclobjtype <> 'T'
   and (w.oid in (select oid from reached) or w.oid not in (select oid from known))
   and not (w.oid = 0 and d.defaclobjtype = 'f' and d.defaclnamespace = 0)
union all
select 'default-public', 'defaults of ' || w.name, null, array['alter default privileges for role ' || w.name || ' revoke execute on functions from public']
  from pg_roles r join who w on w.oid = r.oid
  left join pg_default_acl d on d.defaclrole = r.oid and d.defaclobjtype = 'f' and d.defaclnamespace = 0
   and not exists (select from aclexplode(d.defaclacl) x where x.grantee = 0)
 where r.rolname in ('landlord_owner', 'landlord_migrator') and d.oid is null
