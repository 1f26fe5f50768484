-- What a backfill is wrapped in: one statement over a whole table, run in batches in the order of its primary key, each of
-- them a transaction that begins like any other step. All run with the rights of their caller, the migrator.

-- begin_backfill begins a backfill of a table of the schema, or finds out how far it has come; it is refused like begin_step.
-- p_only: without the tables that inherit from it. p_batch: how many rows the next batch is to take. The last key of all is
-- fixed when it begins. It returns null for it where the table is empty. o_whole: one batch will do.
create or replace function landlord.begin_backfill(
    p_schema name, p_version bigint, p_checksum text, p_run uuid, p_lease bigint, p_table name, p_only boolean, p_batch integer,
    out o_table oid, out o_columns text[], out o_types text[], out o_upper text[], out o_cursor text[],
    out o_batch integer, out o_done bigint, out o_whole boolean)
    language plpgsql volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_table text := format('%I.%I', p_schema, p_table);
begin
    perform landlord.begin_step(p_schema, p_version, p_checksum, p_run, p_lease, false);
    o_table := to_regclass(v_table);
    if o_table is null then
        raise exception 'the home has no table %', quote_ident(p_table) using errcode = '42P01';
    end if;
    select array_agg(a.attname order by n), array_agg(format_type(a.atttypid, a.atttypmod) order by n) into o_columns, o_types
      from pg_index i
      join pg_class c on c.oid = i.indexrelid
      join pg_am m on m.oid = c.relam and m.amname = 'btree'
     cross join generate_series(0, i.indnkeyatts - 1) n
      join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[n]
     where i.indrelid = o_table and i.indisprimary;
    if o_columns is null then
        raise exception 'table % has no primary key in whose order a backfill could go: give it one, or, if it is small in every '
            'home, leave phase=backfill out', quote_ident(p_table) using errcode = '55000';
    end if;

    select b.upper, b.cursor, b.batch, b.done into o_upper, o_cursor, o_batch, o_done
      from landlord.backfill b where b.schema = p_schema and b.version = p_version and b.checksum = p_checksum;
    -- One that has come to its end has no keys any more, and is recorded with its version. That row is gone: it begins anew.
    if not found or o_upper is null then
        v_table := case when p_only then 'only ' else '' end || v_table;
        execute format('select array[%s] from %s order by %s limit 1',
            (select string_agg(format('%I::text', c), ', ') from unnest(o_columns) c), v_table,
            (select string_agg(format('%I desc', c), ', ') from unnest(o_columns) c)) into o_upper;
        execute format('select not exists (select from %s offset %s)', v_table, p_batch) into o_whole;
        o_cursor := null;
        o_batch := p_batch;
        o_done := 0;
        insert into landlord.backfill as b (schema, version, checksum, upper, batch)
        values (p_schema, p_version, p_checksum, o_upper, p_batch)
            on conflict (schema, version) do update set checksum = excluded.checksum, upper = excluded.upper, cursor = null,
               batch = excluded.batch, done = 0, started_at = excluded.started_at;
    end if;
    o_whole := coalesce(o_whole, false);
end $$;

-- begin_batch opens a batch, or refuses it like begin_step; nothing of it has run when it raises. It shares the key of whoever
-- writes across tenants, which a cutover takes alone. p_cursor is where the caller believes the last batch ended.
create or replace function landlord.begin_batch(
    p_schema name, p_version bigint, p_checksum text, p_run uuid, p_lease bigint, p_cursor text[]) returns void
    language plpgsql volatile
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform landlord.begin_step(p_schema, p_version, p_checksum, p_run, p_lease, false);
    perform pg_advisory_xact_lock_shared(landlord.bypass_key());
    if not exists (select from landlord.backfill b
                    where b.schema = p_schema and b.version = p_version and b.checksum = p_checksum
                      and b.cursor is not distinct from p_cursor) then
        raise exception 'another worker has gone on with the backfill' using errcode = 'LL007';
    end if;
end $$;

-- end_batch moves the cursor, in the transaction of the batch: a row is on its safe side if and only if its batch is committed.
-- p_rows is how many rows it has changed, p_batch how many it was to take. It returns how many are changed so far. The last
-- batch takes the keys away, which may tell of people; how many rows were changed stays.
create or replace function landlord.end_batch(
    p_schema name, p_version bigint, p_cursor text[], p_rows bigint, p_batch integer) returns bigint
    language plpgsql volatile
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_done bigint;
begin
    update landlord.backfill b
       set cursor = nullif(p_cursor, b.upper), upper = case when p_cursor <> b.upper then b.upper end,
           done = b.done + p_rows, batch = p_batch
     where b.schema = p_schema and b.version = p_version
    returning b.done into v_done;
    return v_done;
end $$;
