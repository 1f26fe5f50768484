-- Relations that are no tables, who owns them, and who may do what with them.
select 'view-definer' as rule, r.name as object, 'it reads as ' || w.name as detail,
       array['alter view ' || r.name || ' set (security_invoker = true, security_barrier = true)'] as fix
  from rel r join who w on w.oid = r.relowner
 where r.relkind = 'v' and r.oid in (select oid from granted where reaches)
   and not coalesce(r.reloptions && '{security_invoker=true,security_invoker=on,security_invoker=1,security_invoker=yes}', false)
union all
select 'view-no-barrier', r.name, null, array['alter view ' || r.name || ' set (security_barrier = true)']
  from rel r
 where r.relkind = 'v' and r.oid in (select oid from granted where reaches)
   and not coalesce(r.reloptions && '{security_barrier=true,security_barrier=on,security_barrier=1,security_barrier=yes}', false)
union all
select case r.relkind when 'm' then 'materialized-view-reachable' else 'foreign-table-reachable' end, r.name, 'by ' || g.who,
       array['revoke all on ' || r.name || ' from ' || g.who]
  from rel r join (select distinct oid, who from granted where reaches) g on g.oid = r.oid
 where r.relkind in ('m', 'f')
union all
select 'sequence-readable', r.name, g.who || ' has ' || lower(g.privilege), array['revoke ' || lower(g.privilege) || ' on sequence ' || r.name || ' from ' || g.who]
  from rel r join granted g on g.oid = r.oid and g.reaches and g.privilege in ('SELECT', 'UPDATE')
 where r.relkind = 'S'
union all
select 'owner', r.name, 'it belongs to ' || w.name,
       array['alter ' || case r.relkind when 'v' then 'view ' when 'm' then 'materialized view ' when 'f' then 'foreign table ' when 'S' then 'sequence ' else 'table ' end
           || r.name || ' owner to landlord_owner']
  from rel r join who w on w.oid = r.relowner
 where r.home and r.relowner not in (select oid from owner) and r.relowner not in (select oid from member)
   and not (r.relkind = 'S' and exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = r.oid
                                            and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')))
union all
select 'grant-excess', t.name, g.who || ' has ' || lower(g.privilege) || coalesce(' (' || quote_ident(g.col) || ')', ''),
       array['revoke ' || lower(g.privilege) || coalesce(' (' || quote_ident(g.col) || ')', '') || ' on ' || t.name || ' from ' || g.who]
  from tab t join granted g on g.oid = t.oid and g.reaches and g.privilege not in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
 where t.class = 'tenant'
union all
select 'grant-option', r.name, g.who || ' can pass ' || lower(g.privilege) || coalesce(' (' || quote_ident(g.col) || ')', '') || ' on',
       array['revoke grant option for ' || lower(g.privilege) || coalesce(' (' || quote_ident(g.col) || ')', '') || ' on ' || r.name || ' from ' || g.who]
  from rel r join granted g on g.oid = r.oid and g.reaches and g.grantable
union all
select 'grant-column', t.name, g.who || ' has ' || lower(g.privilege) || ' (' || quote_ident(g.col) || ')',
       array['revoke ' || lower(g.privilege) || ' (' || quote_ident(g.col) || ') on ' || t.name || ' from ' || g.who]
  from tab t join granted g on g.oid = t.oid and g.reaches and g.col is not null and g.privilege in ('SELECT', 'INSERT', 'UPDATE')
 where t.class = 'tenant'
union all
select 'grant-public', r.name, string_agg(distinct lower(g.privilege), ', '), array['revoke all on ' || r.name || ' from public']
  from rel r join granted g on g.oid = r.oid and g.who = 'public'
 where r.home
 group by r.name
union all
select 'grant-stranger', r.name, g.who || ' has ' || string_agg(distinct lower(g.privilege), ', '), array['revoke all on ' || r.name || ' from ' || g.who]
  from rel r join granted g on g.oid = r.oid and not g.reaches
 where r.home
 group by r.name, g.who
union all
select 'grant-stranger', 'schema ' || quote_ident(n.nspname), w.name || ' has ' || string_agg(lower(x.privilege_type), ', '),
       array['revoke all on schema ' || quote_ident(n.nspname) || ' from ' || w.name]
  from pg_namespace n cross join aclexplode(n.nspacl) x join who w on w.oid = x.grantee
 where (n.nspname in ('landlord', 'extensions') or n.oid in (select oid from space where home))
   and x.grantee <> 0 and x.grantee <> n.nspowner
   and x.grantee not in (select oid from known) and x.grantee not in (select oid from member)
 group by n.nspname, w.name
union all
select 'grant-stranger', 'database ' || quote_ident(d.datname), w.name || ' has ' || string_agg(lower(x.privilege_type), ', '),
       array['revoke all on database ' || quote_ident(d.datname) || ' from ' || w.name]
  from pg_database d cross join aclexplode(d.datacl) x join who w on w.oid = x.grantee
 where d.datname = current_database() and x.grantee <> 0 and x.grantee <> d.datdba
   and x.grantee not in (select oid from known) and x.grantee not in (select oid from member)
 group by d.datname, w.name
