-- Two columns that say the same while the application goes over from one to the other: whoever writes one of them writes both.
-- Called from migrations; what they make lies in the home and is the same in every home.

-- mirror_name is the name of the trigger, and of its function, that keeps two columns alike.
create or replace function landlord.mirror_name(p_table name, p_old name, p_new name) returns name
    language plpgsql immutable
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_name text := concat_ws('_', 'landlord_mirror', p_table, p_old, p_new);
begin
    if octet_length(v_name) > 63 then
        v_name := 'landlord_mirror_' || md5(concat_ws('.', quote_ident(p_table), quote_ident(p_old), quote_ident(p_new)));
    end if;
    return v_name;
end $$;

-- mirrored_column is the type and the default of a column that may be mirrored, as they are written on the caller's search path.
create or replace function landlord.mirrored_column(p_table regclass, p_column name, out o_type text, out o_default text)
    language plpgsql stable
as $$
declare
    v_given boolean;
begin
    select format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid), a.attidentity <> '' or a.attgenerated <> ''
      into o_type, o_default, v_given
      from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
     where a.attrelid = p_table and a.attname = p_column and a.attnum > 0 and not a.attisdropped;
    if not found then
        raise exception 'table % has no column %', p_table, quote_ident(p_column) using errcode = '42703';
    elsif v_given then
        raise exception 'column % of % cannot be mirrored: PostgreSQL itself gives it its value', quote_ident(p_column), p_table
            using errcode = '0A000';
    end if;
    -- Asked here, and not by the first row that is written.
    execute format('select null::%1$s is distinct from null::%1$s', o_type);
end $$;

-- mirror_column keeps two columns of a table alike from now on. Who writes the old one writes the new one and the other way
-- round; who writes both must write what belongs together, else it is 23514. Rows that are there stay as they are until they
-- are written: a backfill fills them. forward makes a value of the new column and back one of the old, as SQL expressions over
-- the row's columns; without them the value is the same. An update that writes to the new column what forward makes of the old
-- one leaves the old one alone, so that a backfill may lose what the new column does not hold.
create or replace procedure landlord.mirror_column(
    p_table regclass, p_old name, p_new name, forward text default null, back text default null)
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_schema  name;
    v_table   name;
    v_name    name;
    v_forward text := format('new.%I', p_old);
    v_back    text := format('new.%I', p_new);
    v_old     record;
    v_new     record;
    v_whole   boolean;
    v_differs boolean;
begin
    select n.nspname, c.relname, c.relkind in ('r', 'p') and not c.relispartition into v_schema, v_table, v_whole
      from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = p_table;
    -- What types, defaults and expressions name is found, and written, as in the home's own statements.
    perform set_config('search_path', format('%I, extensions, pg_temp', v_schema), true);
    if not v_whole then
        raise exception '% is no table of its own: mirror columns of a table, and of a partition those of its parent', p_table
            using errcode = '42809';
    elsif p_old = p_new then
        raise exception 'a column mirrors another one, not itself' using errcode = '22023';
    elsif (forward is null) <> (back is null) then
        raise exception 'say both how the new column comes from the old one (forward) and the old one from the new (back)'
            using errcode = '22023';
    end if;
    v_name := landlord.mirror_name(v_table, p_old, p_new);
    if to_regprocedure(format('%I.%I()', v_schema, v_name)) is not null then
        raise exception 'columns % and % of % are mirrored already', quote_ident(p_old), quote_ident(p_new), p_table
            using errcode = '42710';
    end if;
    v_old := landlord.mirrored_column(p_table, p_old);
    v_new := landlord.mirrored_column(p_table, p_new);
    if v_new.o_default is not null then
        raise exception 'column % of % has a default, which would hide what only the old application writes: add it without one, '
            'the mirror fills it', quote_ident(p_new), p_table
            using errcode = '0A000', hint = format('alter table %s alter column %I drop default', p_table, p_new);
    end if;
    if v_old.o_default is not null then
        execute format('select (%1$s) is distinct from (%1$s)', v_old.o_default) into v_differs;
        if v_differs then
            raise exception 'the default of column % of % differs from row to row, so that nobody could tell it from what the '
                'application writes: take it away first', quote_ident(p_old), p_table using errcode = '0A000';
        end if;
    end if;
    if forward is not null then
        execute format('select %s, %s from %s limit 0', forward, back, p_table);
        v_forward := format('(select %s from (select new.*) as %I)', forward, v_table);
        v_back := format('(select %s from (select new.*) as %I)', back, v_table);
    end if;

    execute format('create function %1$I.%2$I() returns trigger language plpgsql set search_path = %1$I, extensions, pg_temp as %3$L',
        v_schema, v_name, format($body$
#variable_conflict use_column
declare
    says_old boolean;
    says_new boolean;
    want_new %3$s;
    want_old %4$s;
begin
    if tg_op = 'INSERT' then
        says_old := new.%1$I is not null%5$s;
        says_new := new.%2$I is not null;
    else
        says_old := new.%1$I is distinct from old.%1$I;
        says_new := new.%2$I is distinct from old.%2$I;
    end if;
    if not says_new then
        if says_old or new.%2$I is null then
            new.%2$I := %6$s;
        end if;
        return new;
    end if;
    if says_old or tg_op = 'UPDATE' then
        want_new := %6$s;
        if new.%2$I is not distinct from want_new then
            return new;
        end if;
    end if;
    want_old := %7$s;
    if not says_old then
        new.%1$I := want_old;
    elsif new.%1$I is distinct from want_old then
        raise exception 'columns %% and %% of %% say the same, and are set to values that do not belong together',
            quote_ident(%8$L), quote_ident(%9$L), quote_ident(%10$L)
            using errcode = '23514', hint = 'Write one of them: the other one follows.', table = %10$L, column = %9$L;
    end if;
    return new;
end $body$, p_old, p_new, v_new.o_type, v_old.o_type,
            case when v_old.o_default is not null then format(' and new.%I is distinct from (%s)', p_old, v_old.o_default) end,
            v_forward, v_back, p_old, p_new, v_table));
    execute format('create trigger %I before insert or update on %s for each row execute function %I.%I()',
        v_name, p_table, v_schema, v_name);
end $$;

-- unmirror_column lets the columns go their own ways. Call it before the old one is dropped.
create or replace procedure landlord.unmirror_column(p_table regclass, p_old name, p_new name)
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_schema name;
    v_name   name;
begin
    select n.nspname, landlord.mirror_name(c.relname, p_old, p_new) into v_schema, v_name
      from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = p_table;
    if to_regprocedure(format('%I.%I()', v_schema, v_name)) is null then
        raise exception 'columns % and % of % are not mirrored', quote_ident(p_old), quote_ident(p_new), p_table using errcode = '42704';
    end if;
    execute format('drop trigger %I on %s', v_name, p_table);
    execute format('drop function %I.%I()', v_schema, v_name);
end $$;
