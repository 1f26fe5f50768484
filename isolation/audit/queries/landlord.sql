-- What landlord keeps beside the data.
select 'landlord-grant' as rule, s.object, 'by ' || w.name as detail, array['revoke all on ' || s.object || ' from ' || w.name] as fix
  from (select 'table landlord.' || quote_ident(c.relname) as object, x.grantee
          from pg_class c join own on own.oid = c.relnamespace cross join aclexplode(c.relacl) x
         where c.relkind in ('r', 'v', 'S') and x.grantee <> c.relowner and not (c.relname = 'identity' and x.privilege_type = 'SELECT')
        union all
        select 'table landlord.' || quote_ident(c.relname), x.grantee
          from pg_class c join own on own.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid cross join aclexplode(a.attacl) x
         where x.grantee <> c.relowner
        union all
        select 'routine ' || p.oid::regprocedure, x.grantee
          from pg_proc p join own on own.oid = p.pronamespace cross join aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x
         where x.grantee <> p.proowner and (x.grantee = 0 or p.proname not in ('tenant', 'no_tenant', 'checked_tenant', 'enter', 'demand'))) s
  join who w on w.oid = s.grantee
 where s.grantee in (select oid from reached) or s.grantee not in (select oid from known)
 group by s.object, w.name
union all
select 'landlord-owner', s.object, 'it belongs to ' || w.name, array['alter ' || s.object || ' owner to landlord_guard']
  from (select 'schema landlord' as object, n.nspowner as owner from pg_namespace n join own on own.oid = n.oid
        union all
        select 'table landlord.' || quote_ident(c.relname), c.relowner from pg_class c join own on own.oid = c.relnamespace where c.relkind = 'r'
        union all
        select 'routine ' || p.oid::regprocedure, p.proowner from pg_proc p join own on own.oid = p.pronamespace) s
  join who w on w.oid = s.owner
 where w.name <> 'landlord_guard'
union all
select 'landlord-outdated', 'schema landlord', 'version ' || i.version, null
  from landlord.identity i where i.checksum <> $7
union all
select 'landlord-routine', coalesce(p.oid::regprocedure::text, 'landlord.' || r.name),
       case when p.oid is null then 'it is gone: landlord init makes it anew'
            when r.name is null then 'landlord has none of that name'
            when r.stands then 'it stands beside landlord''s own'
            else 'it is not what landlord installs: landlord init makes it anew' end,
       case when r.name is null or r.stands then array['drop routine ' || p.oid::regprocedure] end
  from (select p.oid, p.proname, {sum} as sum from pg_proc p join own on own.oid = p.pronamespace) p
  full join (select r.name, r.sum, exists (select from pg_proc p join own on own.oid = p.pronamespace where p.proname = r.name and {sum} = r.sum) as stands
               from unnest($5::text[], $6::text[]) as r (name, sum)) r on r.name = p.proname
  cross join landlord.identity i
 where i.checksum = $7 and r.sum is distinct from '' and r.sum is distinct from p.sum
