-- The columns of the tables $1. A type can be sent in binary form when all that it is made of can, and none of it means something
-- else in another database: what names objects goes by number there, and a composite holds the numbers of its types.
select a.attrelid, a.attname, format_type(a.atttypid, a.atttypmod),
       case when element.typnamespace = c.relnamespace then quote_ident(home.nspname) || '.' else '' end || format_type(a.atttypid, a.atttypmod),
       (select array_agg(l.enumlabel::text order by l.enumsortorder) from pg_enum l where l.enumtypid = element.oid),
       case when o.oid is null then ''
            when o.collname = 'default' and o.collnamespace = 'pg_catalog'::regnamespace then 'default'
            else case o.collnamespace when c.relnamespace then '' when 'pg_catalog'::regnamespace then ''
                      else quote_ident(o.collnamespace::regnamespace::text) || '.' end || quote_ident(o.collname) end,
       coalesce(a.atttypid in ('text'::regtype, 'varchar'::regtype)
                and (case o.collprovider when 'c' then o.collcollate when 'd' then d.datcollate end) in ('C', 'POSIX')
                and d.encoding = pg_char_to_encoding('UTF8')
                and (o.collprovider = 'c' or coalesce(to_jsonb(d) ->> 'datlocprovider', 'c') = 'c'), false),
       not exists (
           with recursive made_of (oid) as (
               select a.atttypid
               union
               select p.oid
                 from made_of m
                 join pg_type t on t.oid = m.oid
                 left join pg_range r on t.oid in (r.rngtypid, (to_jsonb(r) ->> 'rngmultitypid')::oid)
                cross join lateral (values (t.typbasetype), (case when t.typlen = -1 then t.typelem end), (r.rngsubtype)) as p (oid)
                where p.oid <> 0)
           select from made_of m join pg_type t on t.oid = m.oid
            where t.typsend = 0 or t.typreceive = 0 or t.typtype in ('c', 'p')
               or t.typnamespace = 'pg_catalog'::regnamespace
                  and (t.typname ~ '^reg' or t.typname in ('tsvector', 'tsquery', 'pg_node_tree', 'aclitem'))),
       a.attnotnull,
       case when a.attgenerated <> '' then pg_get_expr(x.adbin, x.adrelid) else '' end,
       case a.attidentity when 'a' then 'always' when 'd' then 'by default' else '' end,
       s.nspname, s.relname, s.type, s.increment
  from pg_attribute a
  join pg_class c on c.oid = a.attrelid
  join pg_namespace home on home.oid = c.relnamespace
  join pg_type t on t.oid = a.atttypid
  join pg_type element on element.oid = case when t.typelem <> 0 and t.typlen = -1 then t.typelem else t.oid end
  join pg_database d on d.datname = current_database()
  left join pg_collation o on o.oid = a.attcollation
  left join pg_attrdef x on x.adrelid = a.attrelid and x.adnum = a.attnum
  left join lateral (
       select n.nspname, q.relname, format_type(v.seqtypid, null) as type, v.seqincrement as increment
         from (select u.objid from pg_depend u
                where u.classid = 'pg_class'::regclass and u.refclassid = 'pg_class'::regclass
                  and u.refobjid = a.attrelid and u.refobjsubid = a.attnum and u.deptype = 'i'
                union all
               select u.refobjid from pg_depend u
                where u.classid = 'pg_attrdef'::regclass and u.objid = x.oid and u.refclassid = 'pg_class'::regclass) as u (oid)
         join pg_sequence v on v.seqrelid = u.oid
         join pg_class q on q.oid = u.oid
         join pg_namespace n on n.oid = q.relnamespace
        limit 1) s on true
 where a.attrelid = any($1) and a.attnum > 0 and not a.attisdropped
 order by a.attrelid, a.attnum
