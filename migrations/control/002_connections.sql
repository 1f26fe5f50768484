-- One connection budget per cluster, shared by all processes that route to it: each holds a part of it for a time, and
-- renews it.

-- +goose Up

-- How many connections routers may have open on this cluster, over all processes. Operators' and migrators' come on top.
alter table landlord.clusters add column connections integer not null default 80 check (connections > 0);

-- A process that stops renewing has died or is cut off: at expires_at its part is free for others.
create table landlord.connection_shares (
    cluster    text        collate "C" not null references landlord.clusters on delete cascade,
    process    text        collate "C" not null check (length(process) between 1 and 128),
    wanted     integer     not null check (wanted >= 0),
    granted    integer     not null check (granted >= 0),
    -- What it can have open until it reports again: a process that must shrink counts with what it still has.
    held       integer     not null check (held >= granted),
    expires_at timestamptz not null,
    primary key (cluster, process)
);

-- Takes what one process reports, each cluster in its own place of the arrays, and answers its part of each budget. Clusters
-- that are not known are left out of the answer.
--
-- As its definer, because a service's login only reads the catalog. The rows of the clusters are locked in the order of
-- their names, so that nobody deadlocks and nobody gives away what another is giving away; every statement behind the lock
-- must see what its last holder committed, so the transaction must be READ COMMITTED.
-- +goose StatementBegin
create function landlord.share_connections(
    p_process text, p_clusters text[], p_limits integer[], p_opens integer[], p_wants integer[], p_ttl interval)
returns table (of_cluster text, share integer)
language plpgsql volatile security definer set search_path = '' as $$
declare
    r       record;
    v_now   timestamptz;
    v_level bigint;
    v_free  bigint;
begin
    for r in
        select c.name, c.connections as budget, d.wanted, greatest(d.may_open, d.open) as has
          from unnest(p_clusters, p_limits, p_opens, p_wants) as d (cluster, may_open, open, wanted)
          join landlord.clusters c on c.name = d.cluster
         order by c.name
           for no key update of c
    loop
        v_now := clock_timestamp(); -- now() is older than the wait for the lock
        -- Whoever comes back after his own row has expired could not reach the catalog, and neither, perhaps, could the
        -- others. They have their connections still, so they get the time to say so before their part is given away.
        if exists (select from landlord.connection_shares s
                    where s.cluster = r.name and s.process = p_process and s.expires_at <= v_now) then
            update landlord.connection_shares s set expires_at = v_now + p_ttl where s.cluster = r.name and s.expires_at <= v_now;
        else
            delete from landlord.connection_shares s where s.cluster = r.name and s.expires_at <= v_now;
        end if;
        insert into landlord.connection_shares as s (cluster, process, wanted, granted, held, expires_at)
        values (r.name, p_process, r.wanted, 0, r.has, v_now + p_ttl)
            on conflict (cluster, process) do update set wanted = excluded.wanted, expires_at = excluded.expires_at;

        -- The fair level: who wants no more gets all that he wants, and the others get the level. The first in the order of
        -- wants who cannot have what he wants decides it; null: there is enough for all.
        v_level := null;
        select w.even into v_level
          from (select s.wanted, s.process,
                       (r.budget - coalesce(sum(s.wanted) over (smaller rows between unbounded preceding and 1 preceding), 0))
                       / (count(*) over () - row_number() over smaller + 1) as even
                  from landlord.connection_shares s
                 where s.cluster = r.name
                window smaller as (order by s.wanted, s.process)) w
         where w.wanted > w.even
         order by w.wanted, w.process
         limit 1;

        -- What the level leaves over goes out one by one, first to who has most: nothing wanders to and fro.
        select t.target into share
          from (select s.process,
                       least(s.wanted, v_level) + case
                           when s.wanted > v_level
                            and row_number() over (partition by s.wanted > v_level order by s.granted desc, s.process)
                                <= r.budget - sum(least(s.wanted, v_level)) over () then 1
                           else 0 end as target
                  from landlord.connection_shares s
                 where s.cluster = r.name) t
         where t.process = p_process;

        -- Nothing that another holds is given away. What the process has anyway it may keep, up to its target: else, when a
        -- budget has been lowered, all would fall to nothing before they find their new level.
        select r.budget - coalesce(sum(s.held), 0) into v_free
          from landlord.connection_shares s
         where s.cluster = r.name and s.process <> p_process;
        share := least(share, greatest(v_free, r.has));

        if r.wanted = 0 and r.has = 0 then
            delete from landlord.connection_shares s where s.cluster = r.name and s.process = p_process;
        else
            update landlord.connection_shares s set granted = share, held = greatest(share, r.has)
             where s.cluster = r.name and s.process = p_process;
        end if;
        of_cluster := r.name;
        return next;
    end loop;
end
$$;
-- +goose StatementEnd

-- Gives back all that a process holds. It locks as share_connections does.
-- +goose StatementBegin
create function landlord.release_connections(p_process text) returns void
language plpgsql volatile security definer set search_path = '' as $$
begin
    perform from landlord.clusters c
      where c.name in (select s.cluster from landlord.connection_shares s where s.process = p_process)
      order by c.name
        for no key update of c;
    delete from landlord.connection_shares s where s.process = p_process;
end
$$;
-- +goose StatementEnd
