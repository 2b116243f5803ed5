select 1; -- x
select $a$;$a$, "b""c", E'\'', 1e-5 /* /* */ */ ;
/
