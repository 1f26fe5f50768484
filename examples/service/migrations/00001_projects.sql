-- +goose Up
-- Tenant-owned: the column tenant_id is filled in and filtered by PostgreSQL, and leads every key.
create table projects (
    tenant_id  uuid,
    id         uuid        not null default gen_random_uuid(),
    name       text        not null check (name <> ''),
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    unique (tenant_id, name)
);

create table tasks (
    tenant_id  uuid,
    id         uuid        not null default gen_random_uuid(),
    project_id uuid        not null,
    title      text        not null check (title <> ''),
    done       boolean     not null default false,
    created_at timestamptz not null default now(),
    primary key (tenant_id, id),
    foreign key (tenant_id, project_id) references projects (tenant_id, id) on delete cascade
);
create index tasks_by_project on tasks (tenant_id, project_id, created_at, id);

-- +goose Down
drop table tasks;
drop table projects;
