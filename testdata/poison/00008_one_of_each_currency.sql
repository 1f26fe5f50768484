-- landlord: allow=index-not-concurrent a handful of rows, the same everywhere
-- +goose Up
create unique index currencies_by_code on currencies (upper(code));

-- +goose Down
drop index currencies_by_code;
