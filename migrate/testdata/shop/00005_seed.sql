-- +goose Up
create table currencies (code text primary key, digits int not null);
comment on table currencies is 'landlord: reference';
insert into currencies values ('EUR', 2), ('JPY', 0);
-- +goose Down
drop table currencies;
