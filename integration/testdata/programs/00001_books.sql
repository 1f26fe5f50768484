-- +goose Up
-- Tables on which random programs run: every kind of constraint whose breaking could tell something about other tenants.
create table kinds (code text primary key);
comment on table kinds is 'landlord: reference';
insert into kinds values ('cash'), ('debt'), ('stock');

create table accounts (
    tenant_id uuid,
    id        int not null,
    name      text not null,
    kind      text not null default 'cash' references kinds (code),
    balance   int not null default 0 check (balance >= 0),
    doubled   int generated always as (balance * 2) stored,
    tags      text[] not null default '{}',
    about     jsonb not null default '{}',
    primary key (tenant_id, id),
    unique (tenant_id, name)
);

create table entries (
    tenant_id uuid,
    id        int not null,
    account   int not null,
    amount    int not null,
    number    bigint generated always as identity,  -- from a sequence that tenants share: no program looks at it
    primary key (tenant_id, id),
    foreign key (tenant_id, account) references accounts (tenant_id, id) on update cascade on delete cascade
);
create index entries_by_account on entries (tenant_id, account);

create table holds (
    tenant_id uuid,
    id        int not null,
    entry     int not null,
    primary key (tenant_id, id),
    foreign key (tenant_id, entry) references entries (tenant_id, id) deferrable initially deferred
);

create table events (
    tenant_id uuid,
    id        int not null,
    level     int not null,
    primary key (tenant_id, id, level)
) partition by range (level);
create table events_low partition of events for values from (0) to (5);
create table events_high partition of events for values from (5) to (10);

create table changes (
    tenant_id uuid,
    id        bigint generated always as identity,
    account   int not null,
    was       int not null,
    became    int not null,
    primary key (tenant_id, id)
);

create view totals as
    select a.id, a.name, count(e.id) as entries, coalesce(sum(e.amount), 0) as amount
      from accounts a
      left join entries e on e.account = a.id
     group by a.id, a.name;

create function spent(p_account int) returns bigint language sql stable as $$
    select coalesce(sum(amount), 0) from entries where account = p_account
$$;

-- +goose StatementBegin
create function note_change() returns trigger language plpgsql as $$
begin
    insert into changes (account, was, became) values (new.id, old.balance, new.balance);
    return null;
end $$;
-- +goose StatementEnd
create trigger note_change after update of balance on accounts
    for each row when (old.balance <> new.balance) execute function note_change();

-- +goose Down
drop table changes, events, holds, entries, accounts, kinds cascade;
drop function spent, note_change;
