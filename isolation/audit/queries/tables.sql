-- Tables and what hangs on them.
select 'rls-off' as rule, t.name as object, null as detail, array['alter table ' || t.name || ' enable row level security, force row level security'] as fix
  from tab t where t.class = 'tenant' and not t.rls
union all
select 'rls-not-forced', t.name, null, array['alter table ' || t.name || ' force row level security']
  from tab t where t.class = 'tenant' and t.rls and not t.forced
union all
select 'table-unclassified', t.name, null,
       array['comment on table ' || t.name || ' is ''landlord: reference'' -- or ''landlord: global'', or give it tenant_id']
  from tab t
 where t.class = 'none' and t.home and not t.part and t.oid not in (select oid from granted where reaches)
union all
select 'table-open', t.name, g.who || ' has ' || g.privileges, array['revoke all on ' || t.name || ' from ' || g.who]
  from tab t
  join (select oid, who, string_agg(distinct lower(privilege), ', ') as privileges from granted where reaches group by oid, who) g on g.oid = t.oid
 where t.class = 'none'
union all
select 'reference-writable', t.name, g.who || ' has ' || g.privileges,
       array['revoke all on ' || t.name || ' from ' || g.who] || case when g.who <> 'public' then array['grant select on ' || t.name || ' to ' || g.who] else '{}' end
  from tab t
  join (select oid, who, string_agg(distinct lower(privilege) || coalesce(' (' || col || ')', ''), ', ') as privileges
          from granted where reaches and privilege <> 'SELECT' group by oid, who) g on g.oid = t.oid
 where t.class in ('reference', 'global')
union all
select 'partition-reachable', t.name, g.who || ' has ' || g.privileges, array['revoke all on ' || t.name || ' from ' || g.who]
  from tab t
  join (select oid, who, string_agg(distinct lower(privilege), ', ') as privileges from granted where reaches group by oid, who) g on g.oid = t.oid
 where t.class = 'tenant' and t.part
union all
select 'tenant-type', t.name, 'its type is ' || t.type, array['alter table ' || t.name || ' alter column tenant_id type uuid -- or bigint, or text with a deterministic collation']
  from tab t where t.column_number is not null and (not t.exact or t.type not in ('uuid', 'bigint', 'integer', 'text', 'character varying'))
union all
select 'tenant-nullable', t.name, null, array['alter table ' || t.name || ' alter column tenant_id set not null']
  from tab t where t.column_number is not null and not t.filled
union all
select 'tenant-default', t.name, coalesce('it is ' || t.default_text, 'there is none'),
       array['alter table ' || t.name || ' alter column tenant_id set default landlord.tenant()::' || t.type]
  from tab t
 where t.column_number is not null and t.home
   and t.default_text is distinct from case t.type when 'text' then 'landlord.tenant()' else '(landlord.tenant())::' || t.type end
union all
select 'index-missing', t.name, null,
       array['create index ' || case t.relkind when 'r' then 'concurrently ' else '' end || 'on ' || t.name || ' (tenant_id)']
  from tab t
  left join pg_index i on i.indrelid = t.oid and i.indkey[0] = t.column_number and i.indisvalid and i.indpred is null
 where t.column_number is not null and not t.part and i.indexrelid is null
union all
select case when i.indnkeyatts = 1 and a.atttypid = 'uuid'::regtype then 'unique-random' else 'unique-without-tenant' end,
       quote_ident(t.nspname) || '.' || quote_ident(c.relname), 'on ' || t.name,
       array['create unique index concurrently on ' || t.name || ' (tenant_id, ' || (
                select string_agg(quote_ident(k.attname), ', ' order by n.n) from unnest(i.indkey::int[]) with ordinality n (key, n)
                  join pg_attribute k on k.attrelid = t.oid and k.attnum = n.key where n.n <= i.indnkeyatts) || ') -- then drop this one']
  from tab t
  join pg_index i on i.indrelid = t.oid and (i.indisunique or i.indisexclusion)
  join pg_class c on c.oid = i.indexrelid
  left join pg_attribute a on a.attrelid = t.oid and a.attnum = i.indkey[0]
 where t.column_number is not null and t.tenant is null and not t.part and not t.column_number = any (i.indkey::int[])
union all
select 'foreign-key-without-tenant', t.name, 'foreign key ' || quote_ident(f.conname),
       array['alter table ' || t.name || ' drop constraint ' || quote_ident(f.conname) || ' -- and add it again with tenant_id on both sides']
  from tab t
  join pg_constraint f on f.conrelid = t.oid and f.contype = 'f' and f.conparentid = 0
  join tab r on r.oid = f.confrelid
 where t.column_number is not null and r.column_number is not null
   and not exists (select from unnest(f.conkey, f.confkey) as k (x, y) where k.x = t.column_number and k.y = r.column_number)
union all
select 'inherits-across', p.name || ' and ' || t.name, null, array['alter table ' || t.name || ' no inherit ' || p.name]
  from tab t join pg_inherits i on i.inhrelid = t.oid join tab p on p.oid = i.inhparent
 where (t.column_number is null) <> (p.column_number is null)
union all
select 'index-slow', quote_ident(t.nspname) || '.' || quote_ident(c.relname), m.amname || ' index on ' || t.name, null
  from tab t
  join pg_index i on i.indrelid = t.oid
  join pg_class c on c.oid = i.indexrelid
  join pg_am m on m.oid = c.relam and m.amname in ('gin', 'gist', 'spgist')
 where t.class = 'tenant' and not t.part and t.column_number <> all (i.indkey::int[])
union all
select 'trigger-definer', 'trigger ' || quote_ident(g.tgname) || ' on ' || t.name, 'it runs ' || p.oid::regprocedure || ' as ' || w.name, array['alter function ' || p.oid::regprocedure || ' security invoker']
  from tab t join pg_trigger g on g.tgrelid = t.oid and not g.tgisinternal and g.tgparentid = 0
  join pg_proc p on p.oid = g.tgfoid and p.prosecdef join who w on w.oid = p.proowner
union all
select 'rule', 'rule ' || quote_ident(w.rulename) || ' on ' || r.name, null, array['drop rule ' || quote_ident(w.rulename) || ' on ' || r.name]
  from rel r join pg_rewrite w on w.ev_class = r.oid and w.rulename <> '_RETURN'
