-- The tables of the schema $1; $2: the home is one tenant's. A column tenant_id decides before a comment does.
select c.oid, n.nspname, c.relname, k.class, c.relkind = 'p', c.relkind = 'f', c.relpersistence = 'u',
       case when i.indexrelid is not null then 'key' when c.relreplident = 'f' then 'full' else 'nothing' end,
       (select array_agg(a.attname::text order by k.o) from unnest(i.indkey[0:i.indnkeyatts - 1]) with ordinality as k (n, o)
          join pg_attribute a on a.attrelid = c.oid and a.attnum = k.n),
       c.relkind <> 'p' and exists (select from pg_inherits h where c.oid in (h.inhrelid, h.inhparent)),
       id.cast
  from pg_namespace n
  join pg_class c on c.relnamespace = n.oid and c.relkind in ('r', 'p', 'f') and not c.relispartition
  left join pg_index i on i.indexrelid = pg_get_replica_identity_index(c.oid)
  left join lateral (
       select case when t.typnamespace = n.oid then quote_ident(n.nspname) || '.' else '' end || format_type(a.atttypid, a.atttypmod) as cast
         from pg_attribute a
         join pg_type t on t.oid = a.atttypid
        where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped) id on true
 cross join lateral (
       select case when id.cast is not null then 'owned'
                   else coalesce(substring(obj_description(c.oid, 'pg_class') from '^landlord: (reference|global)'),
                                 case when $2 then 'owned' else 'unclassed' end) end as class) k
 where n.nspname = $1 and k.class <> 'global'
   and not exists (select from pg_depend e
                    where e.classid = 'pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')
 order by c.relname collate "C"
