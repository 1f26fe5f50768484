-- Every object of the schemas $1, one row each: which schema (its place in $1), kind, the relation that it is part of, name,
-- definition, and the search path that a function sets. Run with search_path = pg_catalog, so that PostgreSQL writes the
-- schema before every name that is not its own. Objects are found through pg_depend, which has an index by schema.
--
-- To write down a query PostgreSQL locks its tables until the transaction ends: so views and all else that has queries in it
-- are left to a second call, with $2, for those schemas that have any. The first call names them, in a row without a kind, with
-- the number of tables that there are to lock.
with home as materialized (
    select t.i::int as i, n.oid, n.nspname, n.nspowner, n.nspacl
      from unnest($1::text[]) with ordinality t (name, i) join pg_namespace n on n.nspname = t.name
), member as materialized (
    select h.i, d.classid, d.objid
      from home h
      join pg_depend d on d.refclassid = 'pg_namespace'::regclass and d.refobjid = h.oid
     where not exists (select from pg_depend e where e.classid = d.classid and e.objid = d.objid and e.deptype = 'e')
), rel as materialized (
    select m.i, c.oid, quote_ident(c.relname) as name, c.relkind, c.relowner, c.relacl, c.relpersistence, c.relispartition,
           c.relpartbound, c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.relhastriggers, c.relhasrules,
           c.reloptions, c.reloftype
      from member m join pg_class c on c.oid = m.objid
     where m.classid = 'pg_class'::regclass and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
       and c.relname not in ('goose_db_version', 'goose_db_version_id_seq') -- what goose left in a home that was taken over
), proc as materialized (
    select m.i, p.*, format('%I(%s)', p.proname, pg_get_function_identity_arguments(p.oid)) as name
      from member m join pg_proc p on p.oid = m.objid
     where m.classid = 'pg_proc'::regclass
), pol as not materialized ( -- expressions are long
    -- asks: it reads a table. Those of landlord itself do not.
    select r.i, r.name as of, p.*, p.polname not in ('landlord_allow', 'landlord_fence')
               and concat(p.polqual::text, p.polwithcheck::text) like '%:rtekind 0 %' as asks
      from rel r join pg_policy p on p.polrelid = r.oid
     where r.relkind in ('r', 'p')
), typ as materialized (
    select m.i, t.*, quote_ident(t.typname) as name
      from member m join pg_type t on t.oid = m.objid
     where m.classid = 'pg_type'::regclass and t.typtype <> 'm' -- a multirange comes with its range
)
select i, case relkind when 'f' then 'foreign table' else 'table' end as kind, null as of, name, concat_ws(e'\n',
           'owner ' || pg_get_userbyid(relowner),
           case when relpersistence <> 'p' then 'unlogged' end,
           case when relkind = 'p' then 'partition by ' || pg_get_partkeydef(oid) end,
           'inherits ' || (select string_agg(inhparent::regclass::text, ', ' order by inhseqno) from pg_inherits where inhrelid = rel.oid),
           case when relispartition then pg_get_expr(relpartbound, oid) end,
           case when reloftype <> 0 then 'of ' || reloftype::regtype end,
           case when relkind = 'f' then (select format('server %I %s', s.srvname, array_to_string(f.ftoptions, ', '))
               from pg_foreign_table f join pg_foreign_server s on s.oid = f.ftserver where f.ftrelid = rel.oid) end,
           case when relrowsecurity then 'row level security' end,
           case when relforcerowsecurity then 'force row level security' end,
           case when relreplident <> 'd' then 'replica identity ' || case relreplident when 'n' then 'nothing' when 'f' then 'full'
               else 'index ' || (select x.indexrelid::regclass from pg_index x where x.indrelid = rel.oid and x.indisreplident) end end,
           case when relhastriggers then (select 'disabled triggers of foreign keys: ' || count(*)
               from pg_trigger t where t.tgrelid = rel.oid and t.tgisinternal and t.tgenabled <> 'O' having count(*) > 0) end
       ) as definition, null as path
  from rel where not $2 and relkind in ('r', 'p', 'f')
union all
select r.i, 'column', r.name, quote_ident(a.attname), concat_ws(' ',
           format_type(a.atttypid, a.atttypmod),
           case when a.attcollation <> t.typcollation then 'collate ' || a.attcollation::regcollation end,
           case when a.attnotnull then 'not null' end,
           -- PostgreSQL 18 has constraints for this, with generated names; earlier ones have only the flag
           case when a.attnotnull and current_setting('server_version_num')::int >= 180000 and exists (select from pg_constraint n where n.conrelid = a.attrelid and n.contype = 'n'
               and n.conkey[1] = a.attnum and not n.convalidated) then 'not valid' end,
           case a.attgenerated when 's' then 'stored' when 'v' then 'virtual' end,
           case when a.atthasdef then case when a.attgenerated = '' then 'default ' else 'as ' end || (select pg_get_expr(d.adbin, d.adrelid)
               from pg_attrdef d where d.adrelid = a.attrelid and d.adnum = a.attnum) end,
           case a.attidentity when 'a' then 'generated always as identity' when 'd' then 'generated by default as identity' end), null
  from rel r
  join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
  join pg_type t on t.oid = a.atttypid
 where not $2 and (r.relkind in ('r', 'p', 'f') or r.relkind = 'v' and a.atthasdef)
union all
-- Keys of partitions that come from the parent's are the parent's; their names are generated.
select r.i, 'constraint', r.name, quote_ident(c.conname), pg_get_constraintdef(c.oid), null
  from rel r join pg_constraint c on c.conrelid = r.oid
 where not $2 and (c.contype in ('c', 'p', 'u', 'x') or c.contype = 'f' and c.conparentid = 0)
union all
select r.i, 'index', r.name, quote_ident(c.relname), concat_ws(e'\n',
           pg_get_indexdef(x.indexrelid), case when not x.indisvalid or not x.indisready then 'invalid' end), null
  from rel r join pg_index x on x.indrelid = r.oid join pg_class c on c.oid = x.indexrelid
 where not $2 and r.relkind in ('r', 'p', 'm')
   and not exists (select from pg_constraint k where k.conrelid = r.oid and k.conindid = x.indexrelid and k.contype in ('p', 'u', 'x'))
union all
select p.i, 'policy', p.of, quote_ident(p.polname), concat_ws(e'\n',
           case when p.polpermissive then 'permissive' else 'restrictive' end || ' for ' || case p.polcmd when 'r' then 'select'
               when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end || ' to ' ||
               case when p.polroles = '{0}' then 'public' else (select string_agg(case u when 0 then 'public' else
                   case when pg_get_userbyid(u) = (select app_login from landlord.identity) then '{app}' else pg_get_userbyid(u) end end, ', ' order by u)
                   from unnest(p.polroles) u) end,
           'using ' || pg_get_expr(p.polqual, p.polrelid),
           case when p.polwithcheck::text = p.polqual::text then 'with check the same'
               else 'with check ' || pg_get_expr(p.polwithcheck, p.polrelid) end), null
  from pol p where p.asks = $2
union all
select r.i, 'trigger', r.name, quote_ident(t.tgname), concat_ws(e'\n', pg_get_triggerdef(t.oid),
           case t.tgenabled when 'D' then 'disabled' when 'R' then 'enabled on replicas' when 'A' then 'enabled always' end), null
  from rel r join pg_trigger t on t.tgrelid = r.oid
 where not $2 and r.relhastriggers and not t.tgisinternal and t.tgparentid = 0
union all
select r.i, 'rule', r.name, quote_ident(w.rulename), concat_ws(e'\n', pg_get_ruledef(w.oid),
           case w.ev_enabled when 'D' then 'disabled' when 'R' then 'enabled on replicas' when 'A' then 'enabled always' end), null
  from rel r join pg_rewrite w on w.ev_class = r.oid
 where $2 and r.relhasrules and w.rulename <> '_RETURN'
union all
select i, case relkind when 'v' then 'view' else 'materialized view' end, null, name, concat_ws(e'\n',
           'owner ' || pg_get_userbyid(relowner), (select string_agg(o, ', ' order by o) from unnest(reloptions) o), pg_get_viewdef(oid)), null
  from rel where $2 and relkind in ('v', 'm')
union all
select r.i, 'sequence', o.owner, r.name, concat_ws(e'\n',
           'owner ' || pg_get_userbyid(r.relowner),
           format('as %s start %s increment %s min %s max %s cache %s%s', format_type(s.seqtypid, null), s.seqstart, s.seqincrement,
               s.seqmin, s.seqmax, s.seqcache, case when s.seqcycle then ' cycle' end),
           'owned by ' || o.col, case when r.relpersistence <> 'p' then 'unlogged' end), null
  from rel r
  join pg_sequence s on s.seqrelid = r.oid
  left join lateral (select quote_ident(t.relname) as owner, quote_ident(a.attname) as col from pg_depend d
      join pg_class t on t.oid = d.refobjid join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
     where d.classid = 'pg_class'::regclass and d.objid = r.oid and d.objsubid = 0 and d.refclassid = 'pg_class'::regclass
       and d.deptype in ('a', 'i')) o on true
 where not $2 and r.relkind = 'S'
union all
select p.i, case p.prokind when 'a' then 'aggregate' when 'p' then 'procedure' else 'function' end, null, p.name, concat_ws(e'\n',
           'owner ' || pg_get_userbyid(p.proowner),
           format('(%s)', pg_get_function_arguments(p.oid)),
           'returns ' || pg_get_function_result(p.oid),
           concat_ws(' ', case p.prokind when 'w' then 'window' end, 'language ' || (select quote_ident(l.lanname) from pg_language l where l.oid = p.prolang),
               case p.provolatile when 'i' then 'immutable' when 's' then 'stable' else 'volatile' end,
               'parallel ' || case p.proparallel when 's' then 'safe' when 'r' then 'restricted' else 'unsafe' end,
               case when p.proisstrict then 'strict' end, case when p.proleakproof then 'leakproof' end,
               case when p.prosecdef then 'security definer' end, 'cost ' || p.procost,
               case when p.prorows <> 0 then 'rows ' || p.prorows end, case when p.prosupport <> 0 then 'support ' || p.prosupport end),
           (select string_agg('set ' || s, e'\n' order by s) from unnest(p.proconfig) s where s not like 'search\_path=%'),
           (select format('as %s(%s) final %s initial %L sort %s combine %s serial %s deserial %s moving %s(%s) %s final %s initial %L kind %s%s%s',
                   g.aggtransfn, format_type(g.aggtranstype, null), g.aggfinalfn, g.agginitval, g.aggsortop::regoper, g.aggcombinefn, g.aggserialfn,
                   g.aggdeserialfn, g.aggmtransfn, format_type(g.aggmtranstype, null), g.aggminvtransfn, g.aggmfinalfn, g.aggminitval,
                   g.aggkind, g.aggfinalmodify, g.aggmfinalmodify) from pg_aggregate g where p.prokind = 'a' and g.aggfnoid = p.oid),
           coalesce(pg_get_function_sqlbody(p.oid), case when p.prokind <> 'a' then p.prosrc end),
           p.probin),
       (select substr(s, length('search_path=') + 1) from unnest(p.proconfig) s where s like 'search\_path=%')
  from proc p where (p.prosqlbody is not null) = $2
union all
select t.i, case t.typtype when 'd' then 'domain' else 'type' end, null, t.name, concat_ws(e'\n',
           'owner ' || pg_get_userbyid(t.typowner),
           case t.typtype
           when 'e' then 'enum (' || coalesce((select string_agg(quote_literal(e.enumlabel), ', ' order by e.enumsortorder)
               from pg_enum e where e.enumtypid = t.oid), '') || ')'
           when 'd' then concat_ws(' ', format_type(t.typbasetype, t.typtypmod), case when t.typnotnull then 'not null' end,
               'default ' || pg_get_expr(t.typdefaultbin, 0),
               case when t.typcollation <> (select b.typcollation from pg_type b where b.oid = t.typbasetype) then 'collate ' || t.typcollation::regcollation end,
               (select string_agg(format('constraint %I %s', c.conname, pg_get_constraintdef(c.oid)), ' ' order by c.conname)
                  from pg_constraint c where c.contypid = t.oid and c.contype = 'c'))
           when 'c' then 'composite (' || coalesce((select string_agg(concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
                   case when a.attcollation <> b.typcollation then 'collate ' || a.attcollation::regcollation end), ', ' order by a.attnum)
               from pg_attribute a join pg_type b on b.oid = a.atttypid
              where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped), '') || ')'
           when 'r' then (select format('range of %s collate %s operators %s canonical %s difference %s', format_type(g.rngsubtype, null),
                   g.rngcollation::regcollation, o.opcname, g.rngcanonical, g.rngsubdiff)
               from pg_range g join pg_opclass o on o.oid = g.rngsubopc where g.rngtypid = t.oid)
           else format('base input %s output %s', t.typinput, t.typoutput) end), null
  from typ t where not $2
union all
select m.i, 'statistics', (select quote_ident(c.relname) from pg_class c where c.oid = s.stxrelid), quote_ident(s.stxname),
       pg_get_statisticsobjdef(s.oid), null
  from member m join pg_statistic_ext s on s.oid = m.objid
 where not $2 and m.classid = 'pg_statistic_ext'::regclass
union all
select r.i, 'comment', null, r.name, d.description, null
  from rel r join pg_description d on d.objoid = r.oid and d.classoid = 'pg_class'::regclass and d.objsubid = 0
 where not $2 and d.description like 'landlord:%'
union all
select i, 'grants', null, name, (select string_agg(x::text, e'\n')
           from unnest(coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::"char", relowner))) x), null
  from rel where not $2
union all
select r.i, 'grants', r.name, quote_ident(a.attname), (select string_agg(x::text, e'\n') from unnest(a.attacl) x), null
  from rel r join pg_attribute a on a.attrelid = r.oid
 where not $2 and a.attnum > 0 and not a.attisdropped and a.attacl is not null
union all
select i, 'grants', null, name, (select string_agg(x::text, e'\n') from unnest(coalesce(proacl, acldefault('f', proowner))) x), null
  from proc where not $2
union all
select i, 'grants', null, name, (select string_agg(x::text, e'\n') from unnest(coalesce(typacl, acldefault('T', typowner))) x), null
  from typ where not $2
union all
select i, 'grants', null, '', (select string_agg(x::text, e'\n') from unnest(coalesce(nspacl, acldefault('n', nspowner))) x), null
  from home where not $2
union all
select h.i, 'default privileges', null, format('of %I on %s', pg_get_userbyid(d.defaclrole), case d.defaclobjtype when 'r' then 'tables'
           when 'S' then 'sequences' when 'f' then 'functions' when 'T' then 'types' else d.defaclobjtype::text end),
       (select string_agg(x::text, e'\n') from unnest(d.defaclacl) x), null
  from home h join pg_default_acl d on d.defaclnamespace = h.oid where not $2
union all
-- What is rare is known by its name only: operators, collations, text search, an extension that lies in the home.
select m.i, o.type, null, o.identity, '', null
  from member m, lateral pg_identify_object(m.classid, m.objid, 0) o
 where not $2 and m.classid not in ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass, 'pg_statistic_ext'::regclass, 'pg_default_acl'::regclass)
union all
select m.i, '', null, '', count(r.oid)::text, null
  from member m left join rel r on m.classid = 'pg_class'::regclass and r.oid = m.objid
 where not $2
 group by m.i
having coalesce(bool_or(r.relkind in ('v', 'm') or r.relhasrules), false)
    or m.i in (select i from proc where prosqlbody is not null union all select i from pol where asks)
