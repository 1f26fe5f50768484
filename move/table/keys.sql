-- The unique keys and exclusion constraints of the tables $1, the primary keys first. An index that is not valid, because it is
-- still being made, holds nobody back yet.
select i.indrelid, n.relname, i.indisprimary, i.indisexclusion,
       (select coalesce(array_agg(a.attname::text order by k.o), '{}') from unnest(i.indkey[0:i.indnkeyatts - 1]) with ordinality as k (n, o)
          join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.n and k.n > 0),
       (select array_agg(pg_get_indexdef(i.indexrelid, k, false) order by k) from generate_series(1, i.indnkeyatts) as k),
       coalesce(pg_get_expr(i.indpred, i.indrelid), ''), not i.indimmediate,
       coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false),
       coalesce((select pg_get_constraintdef(c.oid) from pg_constraint c
                  where c.conindid = i.indexrelid and c.conrelid = i.indrelid and c.contype in ('p', 'u', 'x') limit 1),
                pg_get_indexdef(i.indexrelid))
  from pg_index i
  join pg_class n on n.oid = i.indexrelid
 where i.indrelid = any($1) and (i.indisunique or i.indisexclusion) and i.indisvalid
 order by i.indrelid, not i.indisprimary, n.relname collate "C"
