-- What is done in the transaction of every migration: nothing that it made is open, and nothing that was closed stays open.
-- The search for what there is to do is paid for by every migration of every home. It looks objects up by their oids and
-- indexes alone, each in a subquery of its own, since a join may read the catalog of all schemas. A session keeps its
-- plans while schemas are added by the thousand: that a table is small enough to be read whole is not to be relied on.

drop function if exists landlord.is_secured(oid, name, text);

-- check_links refuses what would join the rows of two tenants: a foreign key between tenant-owned tables that leaves
-- tenant_id out (it shows that a row exists, and a cascade follows it), and inheritance between a tenant-owned table and
-- one that is not (whoever reads the parent reads the child).
create or replace procedure landlord.check_links(p_schema name)
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
as $$
declare
    v_schema constant oid := to_regnamespace(quote_ident(p_schema));
    v_wrong  text;
begin
    select w.link into v_wrong
      from (select (select format('foreign key %I of %s', f.conname, f.conrelid::regclass)
                      from pg_constraint f
                      join pg_attribute a on a.attrelid = f.conrelid and a.attname = 'tenant_id' and not a.attisdropped
                      join pg_attribute b on b.attrelid = f.confrelid and b.attname = 'tenant_id' and not b.attisdropped
                     where f.conrelid = d.objid and f.contype = 'f' and f.conparentid = 0
                       and not exists (select from unnest(f.conkey, f.confkey) as k (x, y) where k.x = a.attnum and k.y = b.attnum)
                     limit 1) as link
              from pg_depend d
             where d.refclassid = 'pg_namespace'::regclass and d.refobjid = v_schema and d.classid = 'pg_class'::regclass) w
     where w.link is not null
     limit 1;
    if v_wrong is not null then
        raise exception '% leaves tenant_id out', v_wrong using errcode = '42830',
            hint = 'Begin both sides of the key with tenant_id.';
    end if;
    select w.link into v_wrong
      from (select (select format('%s and %s', i.inhparent::regclass, i.inhrelid::regclass)
                      from pg_inherits i
                     where i.inhrelid = d.objid
                       and exists (select from pg_attribute a where a.attrelid = i.inhrelid and a.attname = 'tenant_id' and not a.attisdropped)
                           <> exists (select from pg_attribute a where a.attrelid = i.inhparent and a.attname = 'tenant_id' and not a.attisdropped)
                     limit 1) as link
              from pg_depend d
             where d.refclassid = 'pg_namespace'::regclass and d.refobjid = v_schema and d.classid = 'pg_class'::regclass) w
     where w.link is not null
     limit 1;
    if v_wrong is not null then
        raise exception '% inherit, but only one of them has tenant_id', v_wrong using errcode = '42P16',
            hint = 'Give both tenant_id, or let neither inherit.';
    end if;
end $$;

-- secure_relation gives a relation that is not a table what it may have.
create or replace procedure landlord.secure_relation(p_relation regclass, p_app name)
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_kind constant "char" := (select relkind from pg_class where oid = p_relation);
begin
    if v_kind = 'v' then
        execute format('alter view %s owner to landlord_owner', p_relation);
        execute format('alter view %s set (security_invoker = true, security_barrier = true)', p_relation);
        execute format('revoke all on %s from public, %I, landlord_admin', p_relation, p_app);
        execute format('grant select, insert, update, delete on %s to %I, landlord_admin', p_relation, p_app);
    elsif v_kind in ('m', 'f') then
        -- Neither can have row-level security: closed to the application.
        execute format('alter %s %s owner to landlord_owner',
            case v_kind when 'm' then 'materialized view' else 'foreign table' end, p_relation);
        execute format('revoke all on %s from public, %I', p_relation, p_app);
        execute format('grant select on %s to landlord_admin', p_relation);
    elsif v_kind = 'S' then
        -- A sequence that a column owns has changed hands with its table.
        if not exists (select from pg_depend o where o.classid = 'pg_class'::regclass and o.objid = p_relation
                          and o.refclassid = 'pg_class'::regclass and o.deptype in ('a', 'i')) then
            execute format('alter sequence %s owner to landlord_owner', p_relation);
        end if;
        execute format('revoke all on sequence %s from public, %I, landlord_admin', p_relation, p_app);
        if not exists (select from pg_depend o where o.classid = 'pg_class'::regclass and o.objid = p_relation
                          and o.deptype = 'i') then  -- an identity column needs no grant
            execute format('grant usage on sequence %s to %I, landlord_admin', p_relation, p_app);
        end if;
    end if;
end $$;

-- secure_routine: the application may call what runs with its own rights, nothing else.
create or replace procedure landlord.secure_routine(p_routine regprocedure, p_app name)
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    execute format('alter routine %s owner to landlord_owner', p_routine);
    execute format('revoke all on routine %s from public, %I, landlord_admin', p_routine, p_app);
    if not (select prosecdef from pg_proc where oid = p_routine) then
        execute format('grant execute on routine %s to %I, landlord_admin', p_routine, p_app);
    end if;
end $$;

-- secure secures what is new in a schema: whatever landlord_owner does not own yet, or what lost its protection. Call it in
-- the transaction of the DDL, so that no table is ever open. p_tenant is the schema's tenant, null in a shared schema.
create or replace procedure landlord.secure(p_schema name, p_tenant text default null)
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan  -- to plan the search takes longer than to do it
as $$
declare
    v_schema constant oid := to_regnamespace(quote_ident(p_schema));
    v_owner  constant oid := 'landlord_owner'::regrole;
    v_app    name;
    v_login  oid;
    v_since  int;
    v_recent constant int := -10000000;
    v_tables   regclass[];
    v_others   regclass[];
    v_routines regprocedure[];
    v_linked   boolean;
    v_one      oid;
begin
    if v_schema is null then
        raise exception 'schema % does not exist', quote_ident(p_schema) using errcode = '3F000';
    end if;
    -- age(xmin) tells how many transactions ago a row was written: 0 is this one, and its savepoints are a little less. Far
    -- less is a row so old that the count has begun anew, which it does after two billion. v_since is the transaction that
    -- recorded the last version here, or this one.
    select i.app_login, quote_ident(i.app_login)::regrole,
           (select age(v.xmin) from landlord.schema_version v where v.schema = p_schema order by v.version desc limit 1)
      into v_app, v_login, v_since
      from landlord.identity i where i.one;
    v_since := case when v_since < 0 then 2147483647 else greatest(v_since, 1) end;

    -- Privileges are read from the lists themselves, since has_table_privilege loads what there is of each relation. Whoever
    -- the application's login is a member of does not count: it could not be taken away here.
    select array_agg(o.objid) filter (where o.lacks = 'table'), array_agg(o.objid) filter (where o.lacks = 'relation'),
           array_agg(o.objid) filter (where o.lacks = 'routine'), bool_or(o.lacks in ('table', 'links'))
      into v_tables, v_others, v_routines, v_linked
      from (
        select d.classid, d.objid, case d.classid
            when 'pg_class'::regclass then (
                select case
                    when c.relkind in ('r', 'p') then case
                        when c.relowner <> v_owner then 'table'
                        when case case
                                when a.attnum is not null then 'policies'
                                when (select s.description ~ '^landlord: (reference|global)' from pg_description s
                                       where s.objoid = c.oid and s.classoid = 'pg_class'::regclass and s.objsubid = 0) then 'select'
                                when p_tenant is not null then 'policies'
                                end
                            -- A tenant_id that was added or changed since the last version wants its default and its policies,
                            -- and policies that were made or changed since do not count: it may have been done by a file
                            -- without a transaction, whose statements are committed before this.
                            when 'policies' then age(a.xmin) between v_recent and v_since - 1
                                  or not c.relrowsecurity or not c.relforcerowsecurity
                                  or exists (select from aclexplode(c.relacl) x where x.grantee in (v_login, 0)
                                                and x.privilege_type not in ('SELECT', 'INSERT', 'UPDATE', 'DELETE'))
                                  or (select count(*) from pg_policy p
                                       where p.polrelid = c.oid
                                         and p.polname = case when p.polpermissive then 'landlord_allow' else 'landlord_fence' end
                                         and p.polcmd = '*' and p.polroles = '{0}' and age(p.xmin) not between v_recent and v_since - 1) <> 2
                            -- Without row-level security, a privilege on one column is as good as one on the table.
                            when 'select' then (select coalesce(bool_or(x.privilege_type <> 'SELECT'), not c.relispartition)
                                                  from aclexplode(c.relacl) x where x.grantee in (v_login, 0))
                                  or exists (select from pg_attribute l, aclexplode(l.attacl) x where l.attrelid = c.oid
                                                and x.grantee in (v_login, 0) and x.privilege_type <> 'SELECT')
                            else exists (select from aclexplode(c.relacl) x where x.grantee in (v_login, 0))
                                  or exists (select from pg_attribute l, aclexplode(l.attacl) x where l.attrelid = c.oid
                                                and x.grantee in (v_login, 0))
                            end then 'table'
                        -- Only a table that has triggers can have foreign keys.
                        when c.relhastriggers and exists (select from pg_constraint f
                                where f.conrelid = c.oid and f.contype = 'f' and age(f.xmin) between v_recent and v_since - 1)
                            or exists (select from pg_inherits i
                                where i.inhrelid = c.oid and age(i.xmin) between v_recent and v_since - 1)
                            then 'links'
                        end
                    when c.relkind in ('v', 'm', 'f', 'S') and c.relowner <> v_owner then 'relation'
                    -- what was granted later on a relation that cannot have row-level security
                    when c.relkind in ('m', 'f') and (
                        exists (select from aclexplode(c.relacl) x where x.grantee in (v_login, 0))
                        or exists (select from pg_attribute l, aclexplode(l.attacl) x
                                    where l.attrelid = c.oid and x.grantee in (v_login, 0))) then 'relation'
                    -- "create or replace view" takes the options away
                    when c.relkind = 'v' and c.reloptions @> '{security_invoker=true,security_barrier=true}' is not true then 'relation'
                    -- a serial column that was added to a secured table
                    when c.relkind = 'S'
                        and not exists (select from aclexplode(c.relacl) x where x.grantee in (v_login, 0) and x.privilege_type = 'USAGE')
                        and not exists (select from pg_depend i
                                where i.classid = 'pg_class'::regclass and i.objid = c.oid and i.deptype = 'i') then 'relation'
                    end
                  from pg_class c
                  left join pg_attribute a
                    on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped and c.relkind in ('r', 'p')
                 where c.oid = d.objid)
            when 'pg_proc'::regclass then (
                select 'routine' from pg_proc p
                 where p.oid = d.objid
                   and (p.proowner <> v_owner or p.prosecdef and exists (select
                          from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x where x.grantee in (v_login, 0))))
            end as lacks
          from pg_depend d
         where d.refclassid = 'pg_namespace'::regclass and d.refobjid = v_schema
        offset 0) o  -- looked at once each
     where o.lacks is not null
       and not exists (select from pg_depend e where e.classid = o.classid and e.objid = o.objid and e.deptype = 'e');

    if v_linked then
        call landlord.check_links(p_schema);
    end if;
    foreach v_one in array coalesce(v_tables, '{}') loop
        call landlord.secure_table(v_one, v_app, p_tenant);
    end loop;
    -- After the tables, with which the sequences of their columns change hands.
    foreach v_one in array coalesce(v_others, '{}') loop
        call landlord.secure_relation(v_one, v_app);
    end loop;
    foreach v_one in array coalesce(v_routines, '{}') loop
        call landlord.secure_routine(v_one, v_app);
    end loop;
end $$;
