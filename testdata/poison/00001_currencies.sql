-- +goose Up
-- The same rows in every home, and read-only to the application: the comment says so.
create table currencies (
    code   text primary key,
    digits smallint not null check (digits between 0 and 4)
);
comment on table currencies is 'landlord: reference';

insert into currencies (code, digits) values ('EUR', 2), ('GBP', 2), ('JPY', 0), ('USD', 2);

-- +goose Down
drop table currencies;
