-- What all rules look at. Every set is read once; nothing is looked up per table. The parameters are
--   $1 the application's login   $2 the homes' schemas   $3 their tenants ('': a shared home)   $4 the mode
--   $5 landlord's routines   $6 the sums of what they do ('': of another mode)   $7 the checksum of this release
login as materialized (
    select oid, rolname from pg_roles where rolname = $1
),
-- Who has business here. Anybody else is a stranger.
known as materialized (
    select oid from pg_roles
     where rolsuper or rolname in ($1, current_user, 'landlord_owner', 'landlord_guard', 'landlord_admin', 'landlord_migrator')
),
-- What the login can become, and whose grants it has. If it can become one of those with business here, that is the finding, and
-- what that one may do is none.
member(oid) as (
    select oid from login
    union
    select m.roleid from member join pg_auth_members m on m.member = member.oid where m.roleid not in (select oid from known)
),
reached as materialized (
    select oid from member union all select 0
),
owner as materialized (
    select oid from pg_roles where rolname = 'landlord_owner'
),
who as materialized (
    select oid, quote_ident(rolname) as name, rolsuper or rolbypassrls as bypasses from pg_roles
    union all
    select 0, 'public', false
),
own as materialized (
    select n.oid, p.oid as tenant
      from pg_namespace n left join pg_proc p on p.pronamespace = n.oid and p.proname = 'tenant' and p.pronargs = 0
     where n.nspname = 'landlord'
),
-- The schemas with tables of the application. A schema that is being made a home carries its tenant in its comment.
space as materialized (
    select n.oid, n.nspname, n.nspowner, coalesce(nullif(h.tenant, ''), m.tenant) as tenant,
           h.schema is not null or m.tenant is not null as home
      from pg_namespace n
      left join unnest($2::text[], $3::text[]) as h (schema, tenant) on h.schema = n.nspname
      left join (select objoid, substring(description from '^landlord: tenant (.*)$') as tenant
                   from pg_description where classoid = 'pg_namespace'::regclass and objsubid = 0) m on m.objoid = n.oid
     where n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'landlord')
       and (h.schema is not null or m.tenant is not null or n.nspowner in (select oid from member)
            or exists (select from aclexplode(n.nspacl) x where x.privilege_type = 'USAGE' and x.grantee in (select oid from reached)))
),
extension_member as materialized (
    select classid, objid from pg_depend where deptype = 'e'
),
rel as materialized (
    select c.oid, c.relname, c.relkind, c.relowner, c.relacl, c.relrowsecurity as rls, c.relforcerowsecurity as forced,
           c.relispartition as part, c.reloptions, s.nspname, s.home, s.tenant,
           quote_ident(s.nspname) || '.' || quote_ident(c.relname) as name
      from pg_class c join space s on s.oid = c.relnamespace
     where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and c.relpersistence <> 't'
       and c.oid not in (select objid from extension_member where classid = 'pg_class'::regclass)
),
-- Tables with their class; see landlord.secure_table.
tab as materialized (
    select r.*, a.attnum as column_number, a.attnotnull as filled, format_type(a.atttypid, a.atttypmod) as type,
           coalesce(o.collisdeterministic, true) as exact,
           -- To be given the table, pg_get_expr reads all that PostgreSQL knows of it. A default names no columns and needs none.
           pg_get_expr(d.adbin, 0) as default_text,
           case when a.attnum is null and m.class is not null then m.class
                when a.attnum is null and r.tenant is null then 'none'
                else 'tenant' end as class
      from rel r
      left join pg_attribute a on a.attrelid = r.oid and a.attname = 'tenant_id' and not a.attisdropped
      left join pg_collation o on o.oid = a.attcollation
      left join pg_attrdef d on d.adrelid = r.oid and d.adnum = a.attnum and a.attgenerated = ''
      left join (select objoid, substring(description from '^landlord: (reference|global)') as class
                   from pg_description where classoid = 'pg_class'::regclass and objsubid = 0) m on m.objoid = r.oid
     where r.relkind in ('r', 'p')
),
-- What the application and strangers may do with relations and columns; the owner and landlord's roles are left out.
granted as materialized (
    select x.oid, x.col, x.privilege, x.grantable, x.grantee in (select oid from reached) as reaches, w.name as who
      from (select r.oid, null::name as col, x.grantee, x.privilege_type as privilege, x.is_grantable as grantable
              from rel r, aclexplode(r.relacl) x
             where x.grantee <> r.relowner
            union all
            select r.oid, a.attname, x.grantee, x.privilege_type, x.is_grantable
              from pg_attribute a join rel r on r.oid = a.attrelid, aclexplode(a.attacl) x
             where a.attacl is not null and x.grantee <> r.relowner) x
      join who w on w.oid = x.grantee
     where x.grantee in (select oid from reached) or x.grantee not in (select oid from known)
),
routine as materialized (
    select p.oid, p.proowner, p.prosecdef, p.proleakproof, p.proconfig, p.proacl, p.prosqlbody is not null as bound, p.prorettype,
           s.nspname, s.home
      from pg_proc p join space s on s.oid = p.pronamespace
     where p.oid not in (select objid from extension_member where classid = 'pg_proc'::regclass)
),
callable as materialized (
    select p.oid, x.grantee, x.grantee in (select oid from reached) as reaches, w.name as who
      from routine p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x join who w on w.oid = x.grantee
     where x.grantee <> p.proowner and (x.grantee in (select oid from reached) or x.grantee not in (select oid from known))
),
-- What a policy of ours says, as PostgreSQL writes it back: the template of landlord.secure_table.
template as materialized (
    select t.oid,
           case when cardinality(t.parts) = 2 then '(' || t.parts[1] || ' AND ' || t.parts[2] || ')' else t.parts[1] end as text,
           array_to_string(array_remove(array[
               case when t.type is not null then 'tenant_id = (select landlord.tenant()::' || t.type || ')' end,
               case when t.tenant is not null then '(select landlord.tenant()) = ' || quote_literal(t.tenant) end], null), ' and ') as source
      from (select t.oid, t.type, t.tenant, array_remove(array[
                case t.type when 'text' then '(tenant_id = ( SELECT landlord.tenant() AS tenant))'
                    when 'character varying' then '((tenant_id)::text = (( SELECT (landlord.tenant())::character varying AS tenant))::text)'
                    else '(tenant_id = ( SELECT (landlord.tenant())::' || t.type || ' AS tenant))' end,
                '(( SELECT landlord.tenant() AS tenant) = ''' || replace(t.tenant, '''', '''''') || '''::text)'], null) as parts
              from tab t where t.class = 'tenant') t
),
-- Policies that refer to anything but tenant_id and landlord.tenant(): another column, an operator, cast or function of somebody's.
stranger_policy as materialized (
    select distinct p.oid
      from pg_policy p
      join tab t on t.oid = p.polrelid
      join pg_depend d on d.classid = 'pg_policy'::regclass and d.objid = p.oid
     where not (d.refclassid = 'pg_class'::regclass and d.refobjid = p.polrelid and d.refobjsubid in (0, coalesce(t.column_number, 0)))
       and not (d.refclassid = 'pg_proc'::regclass and d.refobjid = (select tenant from own))
),
-- To write a policy back, PostgreSQL reads all that it knows of the table whose columns it names. A policy that names none but
-- tenant_id reads the same with any table that has tenant_id in the same place: one stands for all.
policy as materialized (
    select p.oid, p.polname, p.polrelid, p.polpermissive as permissive, p.polcmd as cmd, p.polroles as roles, t.name, t.class,
           case when p.strange then pg_get_expr(p.polqual, p.polrelid)
                else coalesce(pg_get_expr(p.polqual, t.likeness), pg_get_expr(p.polqual, p.polrelid)) end as reads,
           case when p.strange then pg_get_expr(p.polwithcheck, p.polrelid)
                else coalesce(pg_get_expr(p.polwithcheck, t.likeness), pg_get_expr(p.polwithcheck, p.polrelid)) end as writes,
           m.text as template, m.source, p.strange
      from (select p.*, p.oid in (select oid from stranger_policy) as strange from pg_policy p) p
      join (select oid, name, class, min(oid) over (partition by column_number) as likeness from tab) t on t.oid = p.polrelid
      left join template m on m.oid = t.oid
),
judged as materialized (
    select p.*, 'policy ' || quote_ident(p.polname) || ' on ' || p.name as object,
           p.polname in ('landlord_allow', 'landlord_fence') as named,
           p.cmd = '*' and p.roles = '{0}' and not p.strange and (p.reads = p.template and p.writes = p.template) is true
               and p.polname is distinct from case when p.permissive then 'landlord_fence' else 'landlord_allow' end as exact
      from policy p
),
