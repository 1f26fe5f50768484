-- landlord: allow=drop-column nothing reads it since spring
-- landlord: allow=drop-table left over
-- +goose Up
alter table orders drop column total;

-- +goose Down
