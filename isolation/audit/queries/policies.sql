-- Policies: ours are told by what PostgreSQL writes back of them and by what they depend on; all others are looked at by their
-- structure.
select 'policy-missing' as rule, 'policy ' || n.policy || ' on ' || t.name as object, null as detail, array[
       format('create policy %s on %s as %s for all to public using (%s) with check (%4$s)',
           n.policy, t.name, n.kind, m.source)] as fix
  from tab t join template m on m.oid = t.oid
  cross join (values ('landlord_allow', 'permissive'), ('landlord_fence', 'restrictive')) as n (policy, kind)
  left join judged j on j.polrelid = t.oid and j.polname = n.policy
 where t.home and j.oid is null
union all
select 'policy-changed', j.object,
       'it says ' || coalesce(j.reads, 'nothing') || case when j.writes is distinct from j.reads then ', with check ' || coalesce(j.writes, 'nothing') else '' end
           || case when j.roles <> '{0}' or j.cmd <> '*' then ', for some roles or commands only' else '' end
           || case when j.strange then ', and calls what is not landlord''s' else '' end,
       array['drop policy ' || quote_ident(j.polname) || ' on ' || j.name,
             format('create policy %I on %s as %s for all to public using (%s) with check (%4$s)', j.polname, j.name,
                 case j.polname when 'landlord_allow' then 'permissive' else 'restrictive' end, j.source)]
  from judged j
 where j.named and not j.exact and j.class = 'tenant'
union all
select 'policy-custom', j.object, concat_ws(', ', 'reads: ' || j.reads, 'writes: ' || j.writes), array['drop policy ' || quote_ident(j.polname) || ' on ' || j.name]
  from judged j
 where not j.exact and not (j.named and j.class = 'tenant')
union all
select c.rule, j.object, c.detail, array['drop policy ' || quote_ident(j.polname) || ' on ' || j.name]
  from judged j
  cross join lateral (select concat_ws(' ', j.reads, j.writes) as text, coalesce(j.reads, '') as reads, coalesce(j.writes, '') as writes) e
  cross join lateral (
    select 'policy-open' as rule, 'reads: ' || j.reads as detail
     where j.permissive and j.reads is not null and position('landlord.tenant()' in e.reads) = 0
    union all
    select 'policy-or', e.text
     where position('landlord.tenant()' in e.text) > 0 and e.text ~ '\m(OR|COALESCE|CASE|IS NULL|IS NOT NULL|IS NOT TRUE|IS NOT FALSE)\M'
    union all
    select 'policy-unchecked', 'writes: ' || j.writes
     where j.permissive and j.writes is not null and position('landlord.tenant()' in e.writes) = 0
    union all
    select 'policy-role', case when j.roles <> '{0}' then 'it holds for some roles only' else e.text end
     where j.roles <> '{0}' or e.text ~ '\m(CURRENT_USER|SESSION_USER|CURRENT_ROLE)\M|\m(pg_has_role|has_\w+_privilege)\('
    union all
    select 'policy-per-row', e.text
     where replace(replace(e.text, 'SELECT landlord.tenant()', ''), 'SELECT (landlord.tenant())', '') ~ 'landlord\.tenant\(\)'
        or e.text ~ 'current_setting\(' and e.text !~ 'SELECT [^)]*current_setting\('
    union all
    select 'policy-setting', e.text where e.text ~ 'current_setting\('
    union all
    select 'policy-definer', 'it calls ' || f.oid::regprocedure
      from pg_depend d join pg_proc f on f.oid = d.refobjid
     where d.classid = 'pg_policy'::regclass and d.objid = j.oid and d.refclassid = 'pg_proc'::regclass and f.prosecdef) c
 where not j.exact
