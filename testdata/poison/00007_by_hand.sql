-- Stands for what somebody has done by hand in the home of one tenant, one in a schema: a currency is there twice.
-- +goose Up
insert into currencies (code, digits) select 'eur', 2 where current_schema() like 't\_%';

-- +goose Down
delete from currencies where code = 'eur';
