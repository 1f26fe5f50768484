-- +goose Up
update orders set note = 'x' where id in (select id from orders where note is null limit 1000);
